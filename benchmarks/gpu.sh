#!/usr/bin/env bash
# What needs a GPU, in under ten minutes on one: golden parity on the device, steps of MAE, VideoMAE V2 and fine-tuning
# beside their peers (eager and compiled, fp32 and bf16), MFU of ViT-L, and the commands, FSDP among them.
#
#     uv run bash benchmarks/gpu.sh                         # on a GPU
#     uv run bash benchmarks/gpu.sh --device cpu --tiny     # the same path, small, anywhere
set -euo pipefail
cd "$(dirname "$0")/.."
device=cuda tiny=
while (($#)); do
    case $1 in
        --device) device=$2; shift 2 ;;
        --tiny) tiny=yes; shift ;;
        *) echo "unknown option $1: --device DEVICE, --tiny" >&2; exit 2 ;;
    esac
done
size=base large=large mae=64 video=16 tune=64 mfu=128 steps=10 eager=
if [[ $tiny ]]; then size=tiny large=micro mae=1 video=1 tune=1 mfu=1 steps=1 eager=--eager; fi

failed=0
part() {
    local start=$SECONDS
    echo "== $1"
    shift
    "$@" || { failed=1; echo "failed: $*"; }
    echo "-- $((SECONDS - start)) s"
}
timed() { part "$1 step" python "benchmarks/$1_step.py" --device "$device" --size "$size" --batch "$2" --steps "$steps" $eager; }

part "golden numbers on $device" env CLINVIT_TEST_DEVICE="$device" python -m pytest -k "official or paper" \
    tests/pretrain/test_{mae,dino,masking}.py tests/backbone/test_vit.py tests/mil/test_aggregators.py tests/finetune/test_classifier.py
timed mae "$mae"
timed videomae "$video"
timed finetune "$tune"
part "MFU" python benchmarks/mfu.py --device "$device" --size "$large" --batch "$mfu" --steps "$steps" $eager
part "commands" python benchmarks/on_device.py ${tiny:+--tiny}
exit $failed
