/**
 * One step of AdvCL as the released loop takes it: every attack step runs the clean views through the network again, and the loss once more. What
 * native/training/advcl.cpp computes once is computed `attack.steps + 1` times here, on the package's operators and autograd.
 *
 * @param api the package, from its source (tests) or its build (bench)
 * @param encoder in train mode, with branches normal, pgd and pgd_ce, a projector of one hidden layer with BatchNorm, and heads
 * @param optimizer an Optimizer of the encoder's parameters
 * @param batch aug1, aug2, org [B, C, H, W]; labels int64 [heads, B]; samples int64 [B]
 */
export function advclStepByStep({ highFrequency, noGrad, ops }, encoder, optimizer, { aug1, aug2, org, labels, samples }, options) {
  const { aten, a_infonce } = ops;
  const { learningRate, seed, labelWeight, highFrequencyRadius, adaptive, objective: { form, temperature, inferiorPositive, hardNegative }, attack } = options;
  const state = encoder.state();
  const parameters = [...state.values()].filter((tensor) => tensor.requiresGrad);
  const heads = labels.shape[0];

  const projector = (features) => {
    const at = (name) => state.get(`projector.${name}`);
    const hidden = aten.linear(features, at('0.weight'), at('0.bias'));
    const normal = aten.batch_norm(hidden, at('1.weight'), at('1.bias'), at('1.running_mean'), at('1.running_var'), true, 0.1, 1e-5, true);
    noGrad(() => aten.add_(at('1.num_batches_tracked'), 1));
    return aten.linear(aten.relu(normal), at('3.weight'), at('3.bias'));
  };
  const project = (images, branch) => projector(encoder.forward(images, { branch }));
  const high = highFrequency(org, highFrequencyRadius);
  /** The five forwards, in the order of the released code. */
  const forward = (xContrastive, xLabels) => {
    const adversary = project(xContrastive, 'pgd');
    const features = encoder.forward(xLabels, { branch: 'pgd_ce' });
    projector(features);
    const rows = aten.cat([adversary, ...[aug1, aug2, high].map((view) => project(view, 'normal'))]);
    return { rows, features };
  };
  const contrastive = (rows, alpha, hard) => a_infonce.loss(rows, 4, {
    form, temperature, adversarial_view: 0, weight: inferiorPositive?.weight ?? 1, alpha: alpha ?? null, normalize: true, ...(hard && { beta: hard.beta, tau_plus: hard.tauPlus }),
  });
  const crossEntropy = (features, reduction) => {
    const losses = Array.from({ length: heads }, (_, head) =>
      aten.cross_entropy_loss(aten.linear(features, state.get(`heads.${head}.weight`), state.get(`heads.${head}.bias`)), aten.select(labels, 0, head), null, reduction));
    return aten.div(losses.reduce((sum, loss) => aten.add(sum, loss)), heads);
  };

  // As torch.autograd.grad(loss, [x_cl, x_ce]) does: no gradients of weights inside the attack.
  for (const parameter of parameters) parameter.requiresGrad = false;
  const start = (numbers) => a_infonce.pgd_start_linf(org, numbers, attack.epsilon, seed, 0, attack.clampStart);
  let [xContrastive, xLabels] = attack.randomStart ? [start(samples), start(aten.bitwise_not(samples))] : [org.clone(), org.clone()];
  for (let step = 0; step < attack.steps; step++) {
    const leaves = [xContrastive, xLabels].map((x) => x.detach());
    for (const leaf of leaves) leaf.requiresGrad = true;
    const { rows, features } = forward(...leaves);
    aten.add(contrastive(rows), crossEntropy(features, 2), { alpha: labelWeight }).backward();
    [xContrastive, xLabels] = leaves.map((leaf) => a_infonce.pgd_step_linf_(leaf.detach().clone(), aten.contiguous(leaf.grad), org, attack.epsilon, attack.stepSize, attack.clampThenProject));
  }
  for (const parameter of parameters) parameter.requiresGrad = true;

  const { rows, features } = forward(xContrastive, xLabels);
  let alpha = inferiorPositive?.alpha;
  let distance;
  if (adaptive) {
    distance = noGrad(() => aten.mean(aten.pairwise_distance(encoder.forward(org, { branch: 'normal' }), encoder.forward(xContrastive, { branch: 'normal' }))).item());
    const { dMin, dMax = Infinity } = adaptive;
    if (dMax < Infinity && distance < dMin) alpha = 0.5;
    else if (distance < dMax && dMax < Infinity) alpha += ((dMax - distance) / (dMax - dMin)) * (0.5 - alpha);
  }
  const contrast = contrastive(rows, alpha, hardNegative), ce = crossEntropy(features, 1);
  const loss = aten.add(contrast, ce, { alpha: labelWeight });
  loss.backward();
  optimizer.step(learningRate);
  optimizer.zeroGrad();
  return { loss: loss.item(), contrastive: contrast.item(), crossEntropy: ce.item(), alpha, distance, adversaries: [xContrastive, xLabels] };
}
