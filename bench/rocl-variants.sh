#!/bin/bash
# The four variants of RoCL and a random encoder on 10,000 images of CIFAR-10: a small encoder, short training, linear head, clean and PGD-20 accuracy.
#   bench/rocl-variants.sh <folder for the runs> [epochs]        needs CIFAR-10 (npx a-infonce data cifar10); about 45 minutes on two cores
# Two runs at a time, one thread each. Everything but the sizes and the optimizer is the preset's.
out=${1:?usage: bench/rocl-variants.sh <folder> [epochs]} epochs=${2:-7}
cli=$(dirname "$0")/../dist/cli/main.js
mkdir -p "$out" || exit 1

pretrain() { # <name> <preset>
  node "$cli" pretrain --preset "$2" --data cifar10 --limit 10000 --epochs "$epochs" --batch-size 128 --out "$out/$1" --threads 1 --seed 0 \
    --set encoder.width=8 --set projector.hidden=[256] --set projector.output=64 --set groups=1 \
    --set attack.steps=3 --set attack.stepSize=0.0157 --set regularizer.sharedForward=true \
    --set 'optimizer={"kind":"sgd","momentum":0.9,"weightDecay":1e-4}' \
    --set 'schedule={"kind":"cosine","rate":0.2,"final":0.001,"warmupEpochs":1,"warmupFrom":0.02}' > "$out/$1.log" 2>&1
}
score() { # <name> <run> [--random-encoder]: the head on the run's 10,000 images, then the first 2,000 test images
  node "$cli" finetune "$out/$2" --limit 10000 --threads 1 --out "$out/$1-classifier.safetensors" "${@:3}" >> "$out/$1.log" 2>&1 &&
    node "$cli" evaluate "$out/$1-classifier.safetensors" --data cifar10 --limit 2000 --attacks clean,pgd20 --epsilon 8/255 --step-size 2/255 --threads 1 --json > "$out/$1.json"
}
(pretrain rocl rocl-cifar10 && score rocl rocl; pretrain ip rocl-ip-cifar10 && score ip ip; score random rocl --random-encoder) &
(pretrain iphn rocl-iphn-cifar10 && score iphn iphn; pretrain hn rocl-hn-cifar10 && score hn hn) &
wait
node -e '
  const { readFileSync } = require("fs");
  console.log("encoder      clean    PGD-20");
  for (const name of ["rocl", "ip", "hn", "iphn", "random"]) {
    const report = JSON.parse(readFileSync(`${process.argv[1]}/${name}.json`, "utf8"));
    const { clean, pgd20 } = report.scores ?? report;
    console.log(name.padEnd(10), [clean, pgd20].map(({ accuracy }) => `${(100 * accuracy).toFixed(1)} %`.padStart(8)).join("  "));
  }' "$out"
