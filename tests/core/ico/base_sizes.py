"""Bytes of real models' weights in half precision, by family (network, text encoders), as the hosts count them."""

U_NETS = {
    "sd15": (1_719_041_928, 247_300_610),
    "sd21": (1_731_821_448, 708_065_282),
    "sdxl": (5_134_927_368, 1_636_620_292),
}
STREAMS = {
    "anima": (4_182_137_856, 1_192_099_842),
    "flux": (23_802_816_640, 9_771_921_924),
    "flux2_klein_4b": (7_751_089_152, 8_044_936_194),
    "flux2_klein_9b": (18_157_162_496, 16_381_470_722),
    "z_image": (12_309_817_472, 8_044_936_194),
    "qwen_image": (40_860_802_176, 15_494_338_562),
}
BYTES = {**U_NETS, **STREAMS}
