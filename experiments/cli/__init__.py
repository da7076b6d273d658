"""What the experiments share of a command line: options, files of them, devices, and errors in a sentence."""
