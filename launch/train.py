"""Run a configuration on this process's devices; the scripts beside it start it on every host.

python launch/train.py --config=configs/finetune.py:eurosat --config.optimizer.lr=1e-5 --workdir=run
"""

import sys

from clipjax.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    sys.exit(main())
