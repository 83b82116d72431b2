#include "bundle.h"

#include <fstream>
#include <system_error>

#include "error.h"
#include "sha256.h"

namespace mfs {
namespace {

namespace fs = std::filesystem;

constexpr int kSchema = 2;  // and every earlier one
constexpr uint64_t kLargestManifest = 10'000'000;
constexpr size_t kMostFiles = 1000;

std::vector<ArtifactTensor> read_tensors(const Json& list) {
  std::vector<ArtifactTensor> out;
  for (const Json& item : list.items(8)) {
    ArtifactTensor tensor;
    tensor.name = item["name"].text(80);
    tensor.dtype = item["dtype"].text(40);
    for (const Json& side : item["shape"].items(8)) tensor.shape.push_back(int(side.integer(1, 1 << 20)));
    out.push_back(tensor);
  }
  return out;
}

Recipe read_recipe(const Json& entry) {
  Json gate = entry["gate"];
  return {entry["weights"].text(20), entry["activations"].text(20), gate["swapped_psnr_db"].number(0, 300),
          gate["swapped_max"].number(0, 10), gate["mask_mean"].number(0, 10)};
}

}  // namespace

bool is_inside(const std::string& name) {
  if (name.empty() || name.size() > 200) return false;
  std::string part;
  for (unsigned char c : name + "/") {
    if (c < 0x20 || c == 0x7f || c == '\\' || c == ':') return false;
    if (c != '/') {
      part += char(c);
      continue;
    }
    if (part.empty() || part == "." || part == "..") return false;
    part.clear();
  }
  return true;
}

std::vector<uint8_t> read_file(const fs::path& folder, const std::string& name, uint64_t most) {
  if (!is_inside(name)) throw bad_bundle(shown(name) + " is no path inside a bundle");
  fs::path path = folder;
  std::error_code error;
  for (const fs::path& part : fs::path(name)) {
    path /= part;
    if (fs::is_symlink(fs::symlink_status(path, error))) throw bad_bundle(shown(name) + " leads through a link");
  }
  if (!fs::exists(path, error)) throw bad_bundle(shown(name) + " is missing");
  if (!fs::is_regular_file(path, error)) throw bad_bundle(shown(name) + " is not a regular file");
  uint64_t bytes = fs::file_size(path, error);
  if (error) throw bad_bundle(shown(name) + " cannot be read: " + error.message());
  if (bytes > most)
    throw bad_bundle(shown(name) + " has " + std::to_string(bytes) + " bytes, at most " + std::to_string(most) + " are read");
  std::vector<uint8_t> content(bytes);
  std::ifstream in(path, std::ios::binary);
  in.read(reinterpret_cast<char*>(content.data()), std::streamsize(bytes));
  if (!in || uint64_t(in.gcount()) != bytes) throw bad_bundle(shown(name) + " cannot be read");
  return content;
}

const ArtifactTensor& Artifact::tensor(const std::string& wanted) const {
  for (const auto* list : {&inputs, &outputs}) {
    for (const ArtifactTensor& tensor : *list) {
      if (tensor.name == wanted) return tensor;
    }
  }
  throw bad_bundle("the " + backend + " artifact has no tensor " + shown(wanted));
}

Bundle::Bundle(const fs::path& folder) : folder_(folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) throw bad_bundle(shown(folder.string()) + " is not a folder");
  name = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  std::vector<uint8_t> text = read_file(folder, "manifest.json", kLargestManifest);
  manifest_sha256 = sha256(text.data(), text.size());
  read(Json::parse(text, "manifest"));
  for (const auto& entry : files_) load(entry.first);
}

void Bundle::read(const Json& manifest) {
  int64_t schema = manifest["schema"].integer(0, 1'000'000);
  if (schema < 1 || schema > kSchema) {
    throw unsupported("the manifest has schema " + std::to_string(schema) + ", this version reads 1 to " + std::to_string(kSchema));
  }
  contract = read_contract(manifest["contract"]);
  if (manifest["architecture"].text(40) != contract.arch) throw bad_bundle("manifest.architecture is not that of the contract");
  alignment = read_alignment(manifest["alignment"], schema);
  paste_back = read_paste_back(manifest["paste_back"], contract, schema);
  label = manifest["synthetic_media"]["label"].text();
  disclosure = manifest["synthetic_media"]["disclosure"].text(1000);
  for (const auto& [file, entry] : manifest["files"].members(kMostFiles)) {
    if (!is_inside(file)) throw bad_bundle("manifest.files: " + shown(file) + " is no path inside a bundle");
    files_.emplace(file, File{uint64_t(entry["bytes"].integer(0, kLargestFile)), entry["sha256"].text(64)});
  }
  for (const auto& [recipe, entry] : manifest["recipes"].members(16)) recipes.emplace(recipe, read_recipe(entry));
  for (const auto& [backend, entry] : manifest["artifacts"].members(16)) {
    Artifact artifact{backend, {}, entry["layout"].text(20), entry["recipe"].text(80), {}, {}};
    for (const Json& file : entry["files"].items(8)) artifact.files.push_back(file.text());
    if (artifact.files.empty()) throw bad_bundle(entry.place() + ".files is empty");
    artifact.inputs = read_tensors(entry["inputs"]);
    artifact.outputs = read_tensors(entry["outputs"]);
    if (recipes.count(artifact.recipe) == 0)
      throw bad_bundle(entry.place() + ".recipe is " + shown(artifact.recipe) + ", which is not explained");
    artifacts.emplace(backend, artifact);
  }
  if (artifacts.empty()) throw bad_bundle("manifest.artifacts is empty");
}

std::vector<uint8_t> Bundle::load(const std::string& file) const {
  auto said = files_.find(file);
  if (said == files_.end()) throw bad_bundle(shown(file) + " is not in the manifest");
  std::vector<uint8_t> content = read_file(folder_, file, kLargestFile);
  if (content.size() != said->second.bytes) {
    throw bad_bundle(shown(file) + " has " + std::to_string(content.size()) + " bytes, the manifest says " +
                     std::to_string(said->second.bytes));
  }
  if (sha256(content.data(), content.size()) != said->second.sha256)
    throw bad_bundle(shown(file) + " has changed: its SHA-256 is not the manifest's");
  return content;
}

const Artifact& Bundle::artifact(const std::string& backend) const {
  auto found = artifacts.find(backend);
  if (found != artifacts.end()) return found->second;
  std::string there;
  for (const auto& entry : artifacts) there += (there.empty() ? "" : ", ") + entry.first;
  throw bad_argument("the bundle has no " + shown(backend) + " artifact; it has " + there);
}

std::string Bundle::json() const {
  JsonWriter out;
  out.open('{').member("architecture", contract.arch).member("size", contract.size);
  out.key("contract").open('{').member("input", contract.input.name).member("swapped", contract.swapped.name);
  if (contract.has_mask()) out.member("mask", contract.mask[0].name);
  out.close();
  out.member("contract_sha256", contract.sha256).member("manifest_sha256", manifest_sha256);
  out.member("label", label).member("disclosure", disclosure).key("artifacts").open('{');
  for (const auto& [backend, artifact] : artifacts) {
    out.key(backend).open('{').member("recipe", artifact.recipe).member("layout", artifact.layout).key("files").open('[');
    for (const std::string& file : artifact.files) out.value(file);
    out.close();
    for (const auto& [key, list] : {std::pair("inputs", &artifact.inputs), std::pair("outputs", &artifact.outputs)}) {
      out.key(key).open('[');
      for (const ArtifactTensor& tensor : *list) {
        out.open('{').member("name", tensor.name).member("dtype", tensor.dtype).key("shape").open('[');
        for (int side : tensor.shape) out.value(side);
        out.close().close();
      }
      out.close();
    }
    out.close();
  }
  return out.close().close().text();
}

}  // namespace mfs
