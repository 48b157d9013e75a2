# SPDX-License-Identifier: Apache-2.0
"""Names a file's input and output for an app, since the converter names them after inner operators."""

from learn2compress.tflite.parsed_file import ParsedFile


def name_ends(parsed: ParsedFile, input_name: str, output_name: str) -> ParsedFile:
    """Renames the first input and the first output of a file, in place.

    Args:
        parsed: The file.
        input_name: New name of the input.
        output_name: New name of the output.

    Returns:
        The same file.
    """
    graph = parsed.edit().subgraphs[0]
    graph.tensors[graph.inputs[0]].name = input_name.encode()
    graph.tensors[graph.outputs[0]].name = output_name.encode()
    return parsed
