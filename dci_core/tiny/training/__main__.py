"""python -m dci_core.tiny.training STAGE --cache DIR --out DIR: trains one part of the small world."""

from .run import main

if __name__ == "__main__":
    main()
