// JSON as this project reads it: every look-up says what it expects, and an error names the place.  The parser is yyjson.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

struct yyjson_doc;
struct yyjson_val;

namespace mfs {

// A value in a document, which it keeps alive.
class Json {
 public:
  // Throws bad_bundle where `text` is not JSON; `name` is what messages call it.
  static Json parse(const std::vector<uint8_t>& text, const std::string& name);

  bool has(const char* key) const;
  Json operator[](const char* key) const;                                // of an object; exactly one such key
  std::vector<std::pair<std::string, Json>> members(size_t most) const;  // of an object; no key twice
  std::vector<Json> items(size_t most) const;                            // of a list

  std::string text(size_t longest = 200) const;
  int64_t integer(int64_t low, int64_t high) const;
  double number(double low, double high) const;

  std::string written() const;  // without spaces, keys in their order
  const std::string& place() const { return place_; }

 private:
  Json(std::shared_ptr<yyjson_doc> document, yyjson_val* value, std::string place);
  [[noreturn]] void refuse(const std::string& wanted) const;

  std::shared_ptr<yyjson_doc> document_;
  yyjson_val* value_;
  std::string place_;
};

// JSON that is being written; numbers that are not finite become null.
class JsonWriter {
 public:
  JsonWriter& open(char bracket);
  JsonWriter& close();
  JsonWriter& key(const std::string& name);
  JsonWriter& value(const std::string& text);
  JsonWriter& value(const char* text) { return value(std::string(text)); }
  JsonWriter& value(double number);
  JsonWriter& value(int64_t number);
  JsonWriter& value(int number) { return value(int64_t(number)); }
  JsonWriter& value(bool truth) { return raw(truth ? "true" : "false"); }
  JsonWriter& null() { return raw("null"); }
  JsonWriter& raw(const std::string& json);  // JSON already
  template <class T>
  JsonWriter& member(const std::string& name, const T& content) {
    return key(name).value(content);
  }
  const std::string& text() const { return text_; }

 private:
  void comma();
  std::string text_, open_;
  bool first_ = true;
};

}  // namespace mfs
