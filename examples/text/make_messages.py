# SPDX-License-Identifier: Apache-2.0
"""Writes messages to a shop's support team in six classes: English, German, Russian and Arabic, with emoji and typos.

messages.csv has the columns text, label, group (the customer) and split; unlabeled.csv has more texts without labels.
Each message is put together of phrases, often with one that mentions another matter, so that single words mislead.
"""

import argparse
import csv
import random
from pathlib import Path

CORES = {
    "delivery": (
        "my {thing} has not arrived", "where is my parcel", "the courier left {thing} at the wrong address",
        "tracking says delivered but nothing came", "still waiting for the shipment of {thing}",
        "wo bleibt mein Paket", "die Lieferung ist nicht angekommen", "посылка не пришла", "где мой заказ", "أين طردي",
    ),
    "refund": (
        "I want my money back for {thing}", "please refund {thing}", "I returned {thing} and got no refund",
        "when will the money for {thing} be on my account", "you took back {thing} but never paid",
        "ich möchte mein Geld zurück", "wann kommt die Erstattung", "верните деньги за {thing}", "أريد استرداد المال",
    ),
    "login": (
        "I cannot log in", "the password reset link does not work", "my account is locked",
        "the code for signing in never comes", "it says wrong password all the time",
        "ich komme nicht in mein Konto", "Passwort vergessen und keine Mail", "не могу войти в аккаунт",
        "لا أستطيع تسجيل الدخول",
    ),
    "billing": (
        "I was charged twice for {thing}", "the invoice for {thing} is wrong", "my card was declined",
        "why is the price on the bill higher", "I need an invoice with our tax number",
        "die Rechnung ist falsch", "zweimal abgebucht", "неправильный счёт за {thing}", "الفاتورة غير صحيحة",
    ),
    "defect": (
        "{thing} broke after two days", "{thing} does not turn on", "the screen of {thing} is cracked",
        "{thing} makes a strange noise", "a part of {thing} is missing in the box",
        "{thing} ist kaputt", "geht nicht mehr an", "{thing} сломался", "المنتج معطل",
    ),
    "praise": (
        "{thing} is wonderful", "thank you for the quick help", "best shop ever", "I love {thing}",
        "just wanted to say that {thing} works great", "super Service, danke", "bin sehr zufrieden mit {thing}",
        "спасибо, всё отлично", "شكرا جزيلا على الخدمة",
    ),
}  # fmt: skip
ASIDES = (
    "the delivery was quick last time", "my refund in May was no problem", "I can log in again by the way",
    "the invoice was fine", "nothing is broken", "thank you in advance", "I read your mail about passwords",
    "danke schon mal", "die Lieferung war pünktlich", "заранее спасибо", "شكرا",
)  # fmt: skip
THINGS = ("the lamp", "the headphones", "my order", "the kettle", "the jacket", "the phone", "die Lampe", "der Wecker",
          "чайник", "الهاتف")  # fmt: skip
OPENINGS = ("", "", "", "Hi, ", "Hello team, ", "Hallo, ", "Guten Tag, ", "Здравствуйте, ", "مرحبا، ", "AGAIN: ")
CLOSINGS = ("", "", ".", "!", "!!!", "?", " 😡", " 😀", " 🙏", " 📦", " Order {number}.", " Nr. {number}", " asap")
SPLITS = ("train", "train", "train", "train", "train", "validation", "test", "test")


def make_messages(count: int, seed: int) -> list[dict[str, str]]:
    """Makes messages; customers write several, and each of them belongs to one split.

    Args:
        count: Number of messages.
        seed: Seed; other seeds have other customers.

    Returns:
        Rows with text, label, group and split.
    """
    rng = random.Random(seed)
    customers = [(f"customer {seed}-{number}", rng.choice(SPLITS)) for number in range(max(8, count // 4))]
    return [_make_message(rng, *rng.choice(customers)) for _ in range(count)]


def _make_message(rng: random.Random, customer: str, split: str) -> dict[str, str]:
    label = rng.choice(list(CORES))
    parts = [rng.choice(CORES[label])]
    for _ in range(rng.choice((0, 0, 1, 2))):
        parts.insert(rng.randint(0, len(parts)), rng.choice(ASIDES))
    text = rng.choice(OPENINGS) + rng.choice((", ", ". ", " - ", " and ")).join(parts) + rng.choice(CLOSINGS)
    text = text.format(thing=rng.choice(THINGS), number=rng.randint(1000, 9999))
    if rng.random() < 0.15:
        text = text.upper()
    if rng.random() < 0.3:  # a typo
        place = rng.randrange(len(text))
        text = text[:place] + text[place + 1 :]
    return {"text": text, "label": label, "group": customer, "split": split}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="the folder to write")
    parser.add_argument("--count", type=int, default=1600, help="messages with a label (default: 1600)")
    parser.add_argument("--unlabeled", type=int, default=3000, help="messages without a label (default: 3000)")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, count, seed, columns in (
        ("messages.csv", arguments.count, 1, ("text", "label", "group", "split")),
        ("unlabeled.csv", arguments.unlabeled, 2, ("text",)),
    ):
        with open(arguments.output / name, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(make_messages(count, seed))
        print(f"wrote {count} messages to {arguments.output / name}")


if __name__ == "__main__":
    main()
