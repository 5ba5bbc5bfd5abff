"""CLIP-T, CLIP-I and DINO of pictures, by encoders that lie in folders on this machine; nothing is ever downloaded."""
