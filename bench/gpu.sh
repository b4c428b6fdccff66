#!/bin/bash
# The program on a machine with a GPU, from its sources: builds it, runs compute-sanitizer, the tests of a GPU and the benchmarks, and ends with a short table. Ten minutes at most.
# Needs there nvcc, CMake, Ninja and a Python whose PyTorch (2.11 or later) is a CUDA build; from elsewhere build/gpu, which `npm run build && node bench/gpu/pack.mjs` makes
# (31 MiB: Node, the built TypeScript, the tests as one file, their packages, the headers of Node-API). No network, no npm.
#   bench/gpu.sh [--out <folder>] [--python python3] [--node <path>] [--device cuda] [--stages build,sanitizer,tests,loss,steps,attack,views] [--quick] [--budget 570]
# What earlier calls left in --out stays, so that stages may be spread over calls. --quick: tiny sizes, to try the script. build/Release from elsewhere will do in place of the stage build, with A_INFONCE_LIBTORCH set to the LibTorch here.
cd "$(dirname "$0")/.." || exit 1
root=$PWD out=build/gpu/results python=python3 node= device=cuda stages=build,sanitizer,tests,loss,steps,attack,views quick= budget=570
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1; shift ;;
    --out|--python|--node|--device|--stages|--budget) declare "${1#--}=$2"; shift 2 ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
mkdir -p "$out" && out=$(cd "$out" && pwd)
began=$SECONDS failed=()

# stage <name> <seconds> <command...>: under its own limit, and that of what is left of all
stage() {
  local name=$1 limit=$2 start=$SECONDS left=$((budget - SECONDS + began)) code
  case ,$stages, in *,"${name%%-*}",*) ;; *) return ;; esac
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -lt 5 ]; then echo "=== $name: no time left"; failed+=("$name (no time left)"); return 1; fi
  echo "=== $name (at most $limit s)"
  timeout --kill-after=5 "$limit" "${@:3}" 2>&1 | tee "$out/$name.log" | tail -n "${TAIL:-40}"
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
[ -e dist ] || cp -r build/gpu/dist . || exit 1
cp build/gpu/tests.mjs test/gpu/tests.mjs || exit 1
torch=${A_INFONCE_LIBTORCH:-$("$python" -c 'import importlib.util as u, os; print(os.path.dirname(u.find_spec("torch").origin))')}
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)
case ${CUDAARCHS:-$capability} in 90) export CUDAARCHS=90a-real ;; [0-9]*) export CUDAARCHS=${CUDAARCHS:-$capability-real} ;; esac
echo "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1), Node $("$node" -v), LibTorch in $torch, $(nvcc --version 2>/dev/null | sed -n 's/.*release //p'), $(nproc) cores, $(date -u +%F)" | tee "$out/machine.txt"
export OMP_NUM_THREADS=4 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

build() {
  cmake -S . -B build -G Ninja -DA_INFONCE_LIBTORCH="$torch" -DCMAKE_JS_INC="$root/node_modules/node-api-headers/include;$root/node_modules/node-addon-api" \
    -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$root/build/Release" >build/configure.log 2>&1 || { cat build/configure.log; return 1; }
  grep 'CUDA kernels' build/configure.log
  ninja -C build || return 1
  ls -l build/Release
}
export -f build; export root torch
TAIL=12 stage build 300 bash -c build || { [ -f build/Release/a_infonce.node ] || { echo "not built: ${failed[*]}"; exit 1; }; }
case ,$stages, in *,build,*) ;; *) export A_INFONCE_LIBTORCH=$torch ;; esac
TAIL=30 "$node" dist/cli/main.js doctor | tee "$out/doctor.txt"

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    TAIL=15 stage "sanitizer-$tool" 75 compute-sanitizer --tool "$tool" --error-exitcode 9 "$node" bench/gpu/sanitize.mjs --device "$device"
  done
else echo "=== sanitizer: there is no compute-sanitizer"; fi
A_INFONCE_TEST_DEVICE=$device TAIL=60 stage tests 150 "$node" test/gpu/tests.mjs
if [ -n "$quick" ]; then loss="--sizes 64,256 --seconds 0.05" step="--batch 8 --width 4 --rounds 1" views="--rounds 1 --seconds 0.05" attack="--rounds 1" graph="--batches 2 --evaluations 2 --images 6 --width 4 --steps 5 --rounds 1"
else loss="--sizes 2048,8192,32768,65536,1048576 --seconds 0.5" step="--batch 512 --width 64 --rounds 5" views="--rounds 3" attack="--rounds 9" graph=; fi
stage loss 120 "$node" bench/gpu-loss.mjs --python "$python" --device "$device" $loss --json "$out/loss.json"
precisions=$([ "$device" = cpu ] && echo full || echo full,tf32,bf16)
for method in rocl advcl; do
  stage "steps-$method" 60 "$node" bench/training-step.mjs --python "$python" --device "$device" --methods "$method" --precisions "$precisions" --channels-last $step --json "$out/step-$method.json"
done
stage attack 20 "$node" bench/pgd-step.mjs --device "$device" $attack --json "$out/attack.json"
[ "$device" = cpu ] || stage attack-graph 40 "$node" bench/gpu-graph.mjs --device "$device" $graph --json "$out/graph.json"
TAIL=3 stage views 30 "$node" bench/augment.mjs --python "$python" --device "$device" $views --json
[ -f "$out/views.log" ] && grep '^{' "$out/views.log" >"$out/views.json"
for method in rocl advcl; do
  stage "steps-$method-compiled" 120 "$node" bench/training-step.mjs --python "$python" --device "$device" --methods "$method" --precisions "${precisions##*,}" --channels-last --compile $step --json "$out/step-$method-compiled.json"
done

echo
"$node" bench/gpu/table.mjs "$out"
echo "$((SECONDS - began)) s in all; ${#failed[@]} failed: ${failed[*]:-none}. Everything is in $out"
[ ${#failed[@]} = 0 ]
