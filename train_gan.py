"""Train a chest x-ray generator: `python train_gan.py --res 256`. The same as `thiscxr train`; see `--help`."""

from thiscxr.cli import main

if __name__ == "__main__":
    main("train")
