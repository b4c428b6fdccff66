// An encoder with what stands on it, as one Model. Parts are shared: a classifier may stand on an encoder that others use too.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include "encoder.h"
#include "model.h"
#include "projector.h"

namespace a_infonce::nn {

class Network : public Model {
 public:
  enum class Output { Features, Projection, Logits };

  std::shared_ptr<Encoder> encoder;
  std::shared_ptr<Projector> projector;  // may be null
  std::shared_ptr<Linear> head;          // may be null
  std::vector<std::shared_ptr<Linear>> heads;  // AdvCL's, of pseudo-labels: on the features, beside the projector
  Output output = Output::Features;      // of Model::forward
  std::string branch;                    // of Model::forward; empty for the encoder's first

  explicit Network(std::shared_ptr<Encoder> encoder, std::shared_ptr<Projector> projector = nullptr, std::shared_ptr<Linear> head = nullptr);
  /// An encoder with first values from `seed`, then its projector if there is one, then a head for each number of classes.
  static std::shared_ptr<Network> create(const EncoderConfig& encoder, const std::optional<ProjectorConfig>& projector, const std::vector<int64_t>& heads, Scheme scheme,
                                         uint64_t seed);
  /// A linear classifier on this network's encoder, which it shares, with output Logits; throws ArgumentRange on classes < 1 or an unknown branch.
  std::shared_ptr<Network> classifier(int64_t classes, const std::string& branch, uint64_t seed) const;

  at::Tensor forward(const at::Tensor& images) override { return forward(images, branch, output); }
  /// images [N, channels, H, W] -> features [N, feature_dim], projection [N, projector output] or logits [N, classes].
  at::Tensor forward(const at::Tensor& images, const std::string& branch, Output output);
  at::Tensor features(const at::Tensor& images, const std::string& branch = "") { return encoder->forward(images, branch); }
  /// features [N, feature_dim] -> [N, projector output]; throws ArgumentRange without a projector.
  at::Tensor project(const at::Tensor& features) const;
  /// features [N, feature_dim] -> [N, classes]; throws ArgumentRange without a head.
  at::Tensor logits(const at::Tensor& features) const;

  void set_training(bool training) override;
  bool training() const override { return encoder->training(); }
  InUse& in_use() override { return encoder->in_use; }
  /// Names start with encoder., projector., head. and heads.<i>.
  std::vector<NamedTensor> state() const override;

  struct Loaded {
    std::vector<std::string> missing, unexpected;
  };
  /// Copies values into the state, all or nothing. Throws ArgumentRange when a shape differs, when no name matches, or (strict) when a name is
  /// missing or unexpected; the message lists the names.
  Loaded load_state(const std::map<std::string, at::Tensor>& values, bool strict = true);
  /// A deep copy: new tensors, same values and mode.
  std::shared_ptr<Network> clone() const;

 private:
  void visit(const Visitor& visitor) const;
};

/// What contrastive losses compare: the model's output, of an encoder with a projector its projection.
at::Tensor embedding(Model& model, const at::Tensor& images);

}  // namespace a_infonce::nn
