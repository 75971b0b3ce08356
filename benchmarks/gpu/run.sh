#!/usr/bin/env bash
# Everything that needs a GPU, in resumable pieces: see README.md beside this file. Without words: the next pieces.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export NNUNET_SEMISAM_GPU=${NNUNET_SEMISAM_GPU:-/tmp/nnunet-semisam-gpu}
export PYTHONPATH="$root:$root/benchmarks:$NNUNET_SEMISAM_GPU/site${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" -m benchmarks.gpu "$@"
