#!/bin/bash
# The program on a machine with a GPU, from its sources: builds it, runs the tests of a GPU, the benchmarks and compute-sanitizer, and ends with a short table. Ten minutes at most.
# Needs there nvcc, CMake, Ninja and a Python whose PyTorch (2.11 or later) is a CUDA build; from elsewhere build/gpu, which `npm run build && node bench/gpu/pack.mjs` makes
# (31 MiB: Node, the built TypeScript, the tests as one file, their packages, the headers of Node-API). No network, no npm.
#   bench/gpu.sh [--out <folder>] [--python python3] [--node <path>] [--device cuda] [--stages build,tests,loss,steps,attack,views,compiled,sanitizer] [--quick] [--budget 570]
# The limits of all stages are more than the budget: name those that are left out with --stages in another call, as what earlier ones found stays in build/results (--quick: tiny
# sizes, to try the script: build/results-quick). Its table, its JSON and an archive of it are copied to --out. build/Release and build/preload from elsewhere will do in place of the stage build, with
# A_INFONCE_LIBTORCH set to the LibTorch here.
cd "$(dirname "$0")/.." || exit 1
root=$PWD out= python=python3 node= device=cuda stages=build,tests,loss,steps,attack,views,compiled,sanitizer quick= budget=570
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1; shift ;;
    --out|--python|--node|--device|--stages|--budget) [ $# -gt 1 ] || { echo "$1: a value is missing" >&2; exit 2; }; declare "${1#--}=$2"; shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
kept=$root/build/results${quick:+-quick}
mkdir -p "$kept" ${out:+"$out"} || exit 1
began=$SECONDS epoch=$(date +%s) failed=()

# stage <name> <seconds> <command...>: under its own limit, and that of what is left of all
stage() {
  local name=$1 limit=$2 start=$SECONDS left=$((budget - SECONDS + began)) code
  case ,$stages, in *,"${name%%-*}",*) ;; *) return ;; esac
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -lt 5 ]; then echo "=== $name: no time left"; failed+=("$name (no time left)"); return 1; fi
  echo "=== $name (at most $limit s)"
  rm -f "$kept/$name.json"
  timeout --kill-after=5 "$limit" "${@:3}" 2>&1 | tee "$kept/$name.log" | tail -n "${TAIL:-40}"
  code=${PIPESTATUS[0]}
  echo "=== $name: $([ "$code" = 0 ] && echo done || echo "exit code $code") in $((SECONDS - start)) s"
  [ "$code" = 0 ] || { failed+=("$name ($code)"); return 1; }
}

if [ -z "$node" ]; then
  node=$root/build/gpu/node
  [ -e "$node" ] || [ -e build/gpu/node.xz ] || { echo "build/gpu is missing: run npm run build && node bench/gpu/pack.mjs where there is npm, and carry it here" >&2; exit 2; }
  [ -x "$node" ] || "$python" - build/gpu/node.xz "$node" <<'PY' || exit 1
import lzma, os, shutil, sys
with lzma.open(sys.argv[1]) as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target)
os.chmod(sys.argv[2], 0o755)
PY
fi
[ -e node_modules ] || cp -r build/gpu/node_modules . || exit 1
cp -ru build/gpu/dist . || exit 1  # what was built since the last call
cp build/gpu/tests.mjs test/gpu/tests.mjs || exit 1
torch=${A_INFONCE_LIBTORCH:-$("$python" -c 'import importlib.util as u, os; print(os.path.dirname(u.find_spec("torch").origin))')}
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)
case ${CUDAARCHS:-$capability} in 90) export CUDAARCHS=90a-real ;; [0-9]*) export CUDAARCHS=${CUDAARCHS:-$capability-real} ;; esac
card=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
echo "${card:-no card}, Node $("$node" -v), LibTorch in $torch, $(nvcc --version 2>/dev/null | sed -n 's/.*release //p'), $(nproc) cores, $(date -u +%F)" | tee "$kept/machine.txt"
export OMP_NUM_THREADS=4 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

build() {
  cmake -S . -B build -G Ninja -DA_INFONCE_LIBTORCH="$torch" -DCMAKE_JS_INC="$root/node_modules/node-api-headers/include;$root/node_modules/node-addon-api" \
    -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$root/build/Release" >build/configure.log 2>&1 || { cat build/configure.log; return 1; }
  grep 'CUDA kernels' build/configure.log
  ninja -C build || return 1
  ls -l build/Release
}
export -f build; export root torch
TAIL=12 stage build 300 bash -c build || { echo "not built: ${failed[*]}; the next call goes on where this one was"; exit 1; }
case ,$stages, in *,build,*) ;; *) export A_INFONCE_LIBTORCH=$torch ;; esac
timeout --kill-after=5 60 "$node" dist/cli/main.js doctor | tee "$kept/doctor.txt"

A_INFONCE_TEST_DEVICE=$device TAIL=60 stage tests 150 "$node" test/gpu/tests.mjs
if [ -n "$quick" ]; then loss="--sizes 64,256 --seconds 0.05" step="--batch 8 --width 4 --rounds 1" views="--rounds 1 --seconds 0.05" attack="--rounds 1" graph="--batches 2 --evaluations 2 --images 6 --width 4 --steps 5 --rounds 1"
else loss="--sizes 2048,8192,32768,65536,1048576 --seconds 0.5" step="--batch 512 --width 64 --rounds 5" views="--rounds 3" attack="--rounds 9" graph=; fi
stage loss 120 "$node" bench/gpu-loss.mjs --python "$python" --device "$device" $loss --json "$kept/loss.json"
precisions=$([ "$device" = cpu ] && echo full || echo full,tf32,bf16)
for method in rocl advcl; do
  stage "steps-$method" 100 "$node" bench/training-step.mjs --python "$python" --device "$device" --methods "$method" --precisions "$precisions" --channels-last $step --json "$kept/steps-$method.json"
done
stage attack 20 "$node" bench/pgd-step.mjs --device "$device" $attack --json "$kept/attack.json"
[ "$device" = cpu ] || stage attack-graph 40 "$node" bench/gpu-graph.mjs --device "$device" $graph --json "$kept/attack-graph.json"
TAIL=3 stage views 30 "$node" bench/augment.mjs --python "$python" --device "$device" $views --json
grep '^{' "$kept/views.log" >"$kept/views.json" 2>/dev/null || rm -f "$kept/views.json"
for method in rocl advcl; do
  stage "compiled-$method" 240 "$node" bench/training-step.mjs --python "$python" --device "$device" --methods "$method" --precisions "${precisions##*,}" --channels-last --compile $step --json "$kept/compiled-$method.json"
done
if command -v compute-sanitizer >/dev/null; then
  # Without the caching allocator, in whose large pieces what is beyond a tensor is another's; our kernels alone, but where others may have written what they read.
  for tool in memcheck racecheck initcheck; do
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 TAIL=15 stage "sanitizer-$tool" 75 compute-sanitizer --tool "$tool" $([ "$tool" = initcheck ] || echo --kernel-name kns=a_infonce) --report-api-errors no --error-exitcode 9 "$node" bench/gpu/sanitize.mjs --device "$device"
  done
else echo "=== sanitizer: there is no compute-sanitizer"; fi

echo
{
"$node" bench/gpu/table.mjs "$kept" "$epoch"
echo "$((SECONDS - began)) s in all; ${#failed[@]} failed: ${failed[*]:-none}. Everything is in $kept${out:+, and in $out}"
} | tee "$kept/table.txt"
[ -z "$out" ] || { tar czf "$out/results.tgz" -C "$kept" . && cp "$kept/table.txt" "$kept/all.json" "$out"; }
[ ${#failed[@]} = 0 ]
