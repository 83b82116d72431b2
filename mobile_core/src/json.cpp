#include "json.h"

#include <yyjson.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "error.h"

namespace mfs {

std::string shown(const std::string& text) {
  std::string out = "'";
  size_t end = std::min<size_t>(text.size(), 80);
  while (end > 0 && end < text.size() && (text[end] & 0xc0) == 0x80) end--;  // no half of a letter
  for (unsigned char c : text.substr(0, end)) out += c < 0x20 || c == 0x7f ? '?' : char(c);
  return out + (text.size() > end ? "...'" : "'");
}

Json::Json(std::shared_ptr<yyjson_doc> document, yyjson_val* value, std::string place)
    : document_(std::move(document)), value_(value), place_(std::move(place)) {}

Json Json::parse(const std::vector<uint8_t>& text, const std::string& name) {
  yyjson_read_err error;
  std::vector<uint8_t> copy = text;  // yyjson's signature wants it writable
  yyjson_doc* document = yyjson_read_opts(reinterpret_cast<char*>(copy.data()), copy.size(), YYJSON_READ_NOFLAG, nullptr, &error);
  if (document == nullptr) throw bad_bundle(name + " is not JSON: " + error.msg + " at byte " + std::to_string(error.pos));
  return {std::shared_ptr<yyjson_doc>(document, yyjson_doc_free), yyjson_doc_get_root(document), name};
}

void Json::refuse(const std::string& wanted) const { throw bad_bundle(place_ + " must be " + wanted); }

bool Json::has(const char* key) const { return yyjson_is_obj(value_) && yyjson_obj_get(value_, key) != nullptr; }

// Readers differ on which of two members of one name they take, so a file could mean one thing here and another in Python.
Json Json::operator[](const char* key) const {
  if (!yyjson_is_obj(value_)) refuse("an object");
  yyjson_val* found = nullptr;
  yyjson_obj_iter all = yyjson_obj_iter_with(value_);
  while (yyjson_val* name = yyjson_obj_iter_next(&all)) {
    if (!yyjson_equals_str(name, key)) continue;
    if (found != nullptr) throw bad_bundle(place_ + " has '" + key + "' twice");
    found = yyjson_obj_iter_get_val(name);
  }
  if (found == nullptr) throw bad_bundle(place_ + " lacks '" + key + "'");
  return {document_, found, place_ + "." + key};
}

std::vector<std::pair<std::string, Json>> Json::members(size_t most) const {
  if (!yyjson_is_obj(value_) || yyjson_obj_size(value_) > most) refuse("an object of at most " + std::to_string(most) + " entries");
  std::vector<std::pair<std::string, Json>> out;
  std::set<std::string> seen;
  yyjson_obj_iter all = yyjson_obj_iter_with(value_);
  while (yyjson_val* name = yyjson_obj_iter_next(&all)) {
    std::string key(yyjson_get_str(name), yyjson_get_len(name));
    if (!seen.insert(key).second) throw bad_bundle(place_ + " has " + shown(key) + " twice");
    out.emplace_back(key, Json(document_, yyjson_obj_iter_get_val(name), place_ + "." + shown(key)));
  }
  return out;
}

std::vector<Json> Json::items(size_t most) const {
  if (!yyjson_is_arr(value_) || yyjson_arr_size(value_) > most) refuse("a list of at most " + std::to_string(most));
  std::vector<Json> out;
  yyjson_arr_iter all = yyjson_arr_iter_with(value_);
  while (yyjson_val* item = yyjson_arr_iter_next(&all)) {
    out.push_back(Json(document_, item, place_ + "[" + std::to_string(out.size()) + "]"));
  }
  return out;
}

std::string Json::text(size_t longest) const {
  if (!yyjson_is_str(value_) || yyjson_get_len(value_) > longest) refuse("text of at most " + std::to_string(longest) + " bytes");
  return {yyjson_get_str(value_), yyjson_get_len(value_)};
}

int64_t Json::integer(int64_t low, int64_t high) const {
  bool fits = yyjson_is_int(value_) && !(yyjson_is_uint(value_) && yyjson_get_uint(value_) > uint64_t(INT64_MAX));
  int64_t found = fits ? yyjson_get_sint(value_) : 0;
  if (!fits || found < low || found > high) refuse("a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  return found;
}

double Json::number(double low, double high) const {
  double found = yyjson_is_num(value_) ? yyjson_get_num(value_) : NAN;
  if (!(found >= low && found <= high)) {
    char range[80];
    std::snprintf(range, sizeof range, "a number from %g to %g", low, high);
    refuse(range);
  }
  return found;
}

std::string Json::written() const {
  size_t length = 0;
  char* text = yyjson_val_write(value_, YYJSON_WRITE_NOFLAG, &length);
  if (text == nullptr) throw failed(place_ + " cannot be written as JSON");
  std::string out(text, length);
  std::free(text);
  return out;
}

void JsonWriter::comma() {
  if (!first_) text_ += ",";
  first_ = false;
}

JsonWriter& JsonWriter::open(char bracket) {
  comma();
  text_ += bracket;
  open_ += bracket == '{' ? '}' : ']';
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::close() {
  text_ += open_.back();
  open_.pop_back();
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::key(const std::string& name) {
  value(name);
  text_ += ":";
  first_ = true;  // no comma before what follows
  return *this;
}

JsonWriter& JsonWriter::value(const std::string& text) {
  comma();
  text_ += '"';
  for (unsigned char c : text) {
    char escaped[8];
    if (c == '"' || c == '\\') {
      text_ += '\\';
      text_ += char(c);
    } else if (c < 0x20) {
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      text_ += escaped;
    } else {
      text_ += char(c);
    }
  }
  text_ += '"';
  return *this;
}

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return null();
  char digits[40];
  std::snprintf(digits, sizeof digits, "%.7g", number);
  return raw(digits);
}

JsonWriter& JsonWriter::value(int64_t number) { return raw(std::to_string(number)); }

JsonWriter& JsonWriter::raw(const std::string& json) {
  comma();
  text_ += json;
  return *this;
}

}  // namespace mfs
