"""python -m bench: the alexnet-bench command from a plain checkout."""

from bench.cli import main

if __name__ == "__main__":
    main()
