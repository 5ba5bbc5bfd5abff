"""One block's attention as the methods see it: the seam between model families and methods."""
