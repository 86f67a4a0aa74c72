"""The weights that ship, the format of a weights file, and what makes one from other files.

What lies in this folder is made from a training checkpoint by two commands, and what they write is committed:

    panini export runs/default/best.pt -o src/panini/weights --samples N
    panini calibrate --data FACES --validation FOLDER --weights src/panini/weights/default.safetensors
"""

from panini.weights.format import DEFAULT, FORMAT, WeightsHeader, read_header

__all__ = ["DEFAULT", "FORMAT", "WeightsHeader", "read_header"]
