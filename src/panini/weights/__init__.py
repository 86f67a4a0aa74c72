"""The default weights, the format of weights files, and conversions from other files.

Two commands make the files in this folder from a training checkpoint; these files are committed:

    panini export runs/default/best.pt -o src/panini/weights --samples N
    panini calibrate --data FACES --validation FOLDER --weights src/panini/weights/default.safetensors
"""

from panini.weights.format import DEFAULT, FORMAT, WeightsHeader, read_header

__all__ = ["DEFAULT", "FORMAT", "WeightsHeader", "read_header"]
