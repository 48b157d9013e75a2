# SPDX-License-Identifier: Apache-2.0
"""Runs MediaPipe's TextClassifier on texts: a program for an interpreter that has the package mediapipe.

    python run_mediapipe.py MODEL < texts.json > classes.json

The texts are a JSON list of strings; the result is a list of the name of the best class of each.
"""

import json
import sys

from mediapipe.tasks.python import BaseOptions, text

options = text.TextClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
with text.TextClassifier.create_from_options(options) as classifier:
    results = [classifier.classify(one).classifications[0].categories for one in json.load(sys.stdin)]
json.dump([max(found, key=lambda category: category.score).category_name for found in results], sys.stdout)
