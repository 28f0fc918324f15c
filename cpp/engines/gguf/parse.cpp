#include <algorithm>
#include <bit>
#include <cctype>
#include <limits>
#include <new>
#include <stdexcept>

#include "engines/gguf/gguf.h"
#include "engines/gguf/source.h"

namespace pm::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF values are read in place");

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();
// Memory grows with what was really read, never with what a length field claims.
constexpr uint64_t kReadChunk = uint64_t{1} << 20;

// Shown in messages: printable ASCII only, so that a corrupt name cannot garble a terminal.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 80)) {
    out += std::isprint(static_cast<unsigned char>(c)) ? c : '?';
  }
  return out;
}

bool is_name(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

// `a * b` into `out`; false on overflow.
bool multiply(uint64_t a, uint64_t b, uint64_t& out) {
  if (a != 0 && b > kNoLimit / a) return false;
  out = a * b;
  return true;
}

// Rounds up to a power of two; false on overflow.
bool pad(uint64_t value, uint64_t alignment, uint64_t& out) {
  if (value > kNoLimit - (alignment - 1)) return false;
  out = (value + alignment - 1) & ~(alignment - 1);
  return true;
}

class Parser {
 public:
  Parser(Source& source, const Limits& limits)
      : limits_(limits),
        file_bytes_(source.size()),
        cursor_(source, std::min(source.size(), limits.metadata_bytes)) {}

  Result<GgufFile> parse() {
    file_.file_bytes = file_bytes_;
    PM_TRY(read_header());
    for (uint64_t i = 0; i < key_count_; ++i) PM_TRY(read_key_value(i));
    PM_TRY(read_alignment());
    PM_TRY(reject_split());
    for (uint64_t i = 0; i < tensor_count_; ++i) PM_TRY(read_tensor(i));
    PM_TRY(check_data_section());
    return std::move(file_);
  }

 private:
  Error fail(const std::string& expected, const std::string& found, uint64_t offset) const {
    std::string message =
        "expected " + expected + " at offset " + std::to_string(offset) + " of the GGUF file";
    if (!context_.empty()) message += " (" + context_ + ")";
    message += ", found " + found;
    Error error{ErrorCode::kModelInvalid, std::move(message)};
    error.details = {
        {"offset", std::to_string(offset)}, {"expected", expected}, {"received", found}};
    if (!context_.empty()) error.details.emplace_back("where", context_);
    return error;
  }

  Error truncated(const std::string& expected) const {
    const bool capped = file_bytes_ > limits_.metadata_bytes;
    const uint64_t end = cursor_.position() + cursor_.remaining();
    return fail(expected,
                capped ? "more than " + std::to_string(end) + " bytes of metadata (the limit)"
                       : "the end of the file at " + std::to_string(end),
                cursor_.position());
  }

  template <typename T>
  Status read(T& target, const char* what) {
    if (!cursor_.read(target)) return truncated(what);
    return {};
  }

  Status read_blob(std::string& target, uint64_t count, const char* what) {
    if (count > cursor_.remaining()) return truncated(what);
    while (count > 0) {
      const uint64_t step = std::min(count, kReadChunk);
      const size_t before = target.size();
      target.resize(before + step);
      if (!cursor_.read_bytes(target.data() + before, step)) return truncated(what);
      count -= step;
    }
    return {};
  }

  Status read_string(std::string& target, uint64_t limit, const char* what) {
    const uint64_t at = cursor_.position();
    uint64_t length = 0;
    PM_TRY(read(length, what));
    if (length > limit) {
      return fail(std::string(what) + " of at most " + std::to_string(limit) + " bytes",
                  std::to_string(length) + " bytes", at);
    }
    if (length > cursor_.remaining()) {
      return fail(std::string(what) + " that ends inside the file",
                  "a length of " + std::to_string(length) + " bytes with " +
                      std::to_string(cursor_.remaining()) + " left",
                  at);
    }
    return read_blob(target, length, what);
  }

  Status read_header() {
    char magic[4] = {};
    PM_TRY(read(magic, "the magic number 'GGUF'"));
    if (std::string_view(magic, 4) != "GGUF") {
      return fail("the magic number 'GGUF'", "'" + printable({magic, 4}) + "'", 0);
    }
    PM_TRY(read(file_.version, "the version"));
    if (file_.version != 2 && file_.version != 3) {
      const bool swapped = (file_.version & 0xffff) == 0 && file_.version != 0;
      return fail("GGUF version 2 or 3",
                  swapped ? "a big-endian file" : std::to_string(file_.version), 4);
    }
    PM_TRY(read(tensor_count_, "the number of tensors"));
    if (tensor_count_ > limits_.tensors) {
      return fail("at most " + std::to_string(limits_.tensors) + " tensors",
                  std::to_string(tensor_count_), 8);
    }
    PM_TRY(read(key_count_, "the number of keys"));
    if (key_count_ > limits_.keys) {
      return fail("at most " + std::to_string(limits_.keys) + " keys", std::to_string(key_count_),
                  16);
    }
    return {};
  }

  Status read_key_value(uint64_t index) {
    context_ = "key number " + std::to_string(index);
    KeyValue entry;
    const uint64_t at = cursor_.position();
    PM_TRY(read_string(entry.key, limits_.key_bytes, "a key"));
    if (!is_name(entry.key)) {
      return fail("a key of printable ASCII characters", "'" + printable(entry.key) + "'", at);
    }
    context_ = "key " + printable(entry.key);
    if (!file_.key_index.emplace(entry.key, file_.metadata.size()).second) {
      return fail("keys that differ", "this key a second time", at);
    }
    const uint64_t type_at = cursor_.position();
    uint32_t type = 0;
    PM_TRY(read(type, "a value type"));
    entry.value.type = static_cast<ValueType>(type);
    entry.offset = cursor_.position();
    if (entry.value.type == ValueType::kArray) {
      PM_TRY(read_array(entry.value.data.emplace<Array>()));
    } else {
      PM_TRY(read_scalar(entry.value, type_at));
    }
    file_.metadata.push_back(std::move(entry));
    return {};
  }

  template <typename Raw, typename Wide>
  Status read_number(Value& value, const char* what) {
    Raw raw{};
    PM_TRY(read(raw, what));
    value.data = static_cast<Wide>(raw);
    return {};
  }

  Status read_scalar(Value& value, uint64_t type_at) {
    switch (value.type) {
      case ValueType::kUint8:
        return read_number<uint8_t, uint64_t>(value, "a u8");
      case ValueType::kInt8:
        return read_number<int8_t, int64_t>(value, "an i8");
      case ValueType::kUint16:
        return read_number<uint16_t, uint64_t>(value, "a u16");
      case ValueType::kInt16:
        return read_number<int16_t, int64_t>(value, "an i16");
      case ValueType::kUint32:
        return read_number<uint32_t, uint64_t>(value, "a u32");
      case ValueType::kInt32:
        return read_number<int32_t, int64_t>(value, "an i32");
      case ValueType::kFloat32:
        return read_number<float, double>(value, "an f32");
      case ValueType::kUint64:
        return read_number<uint64_t, uint64_t>(value, "a u64");
      case ValueType::kInt64:
        return read_number<int64_t, int64_t>(value, "an i64");
      case ValueType::kFloat64:
        return read_number<double, double>(value, "an f64");
      case ValueType::kBool:
        return read_bool(value);
      case ValueType::kString:
        return read_string(value.data.emplace<std::string>(), limits_.string_bytes, "a string");
      default:
        return fail("a value type from 0 to 12", std::to_string(static_cast<uint32_t>(value.type)),
                    type_at);
    }
  }

  Status read_bool(Value& value) {
    const uint64_t at = cursor_.position();
    uint8_t raw = 0;
    PM_TRY(read(raw, "a bool"));
    if (raw > 1) return fail("a bool of 0 or 1", std::to_string(raw), at);
    value.data = raw == 1;
    return {};
  }

  Status read_array(Array& array) {
    const uint64_t at = cursor_.position();
    uint32_t type = 0;
    PM_TRY(read(type, "an array's element type"));
    array.type = static_cast<ValueType>(type);
    const uint64_t element_bytes = value_type_size(array.type);
    if (array.type != ValueType::kString && element_bytes == 0) {
      return fail("array elements that are numbers, bools or strings (no nested arrays)",
                  "type " + std::to_string(type), at);
    }
    const uint64_t length_at = cursor_.position();
    PM_TRY(read(array.length, "an array's length"));
    // A string costs at least its 8-byte length.
    const uint64_t least = element_bytes == 0 ? 8 : element_bytes;
    if (array.length > cursor_.remaining() / least) {
      return fail("an array that ends inside the file",
                  std::to_string(array.length) + " elements of at least " + std::to_string(least) +
                      " bytes with " + std::to_string(cursor_.remaining()) + " bytes left",
                  length_at);
    }
    if (array.type == ValueType::kString) return read_strings(array);
    PM_TRY(read_blob(array.bytes, array.length * element_bytes, "array elements"));
    if (array.type == ValueType::kBool) return check_bools(array, length_at);
    return {};
  }

  Status read_strings(Array& array) {
    std::string text;
    for (uint64_t i = 0; i < array.length; ++i) {
      text.clear();
      PM_TRY(read_string(text, limits_.string_bytes, "an array's string"));
      array.bytes += text;
      array.ends.push_back(array.bytes.size());
    }
    return {};
  }

  Status check_bools(const Array& array, uint64_t at) {
    for (const char c : array.bytes) {
      if (c != 0 && c != 1) {
        return fail("bools of 0 or 1", std::to_string(static_cast<unsigned char>(c)), at);
      }
    }
    return {};
  }

  Status read_alignment() {
    const KeyValue* entry = file_.find("general.alignment");
    if (entry == nullptr) return {};
    context_ = "key general.alignment";
    if (entry->value.type != ValueType::kUint32) {
      return fail("type u32", std::string(value_type_name(entry->value.type)), entry->offset);
    }
    const uint64_t alignment = std::get<uint64_t>(entry->value.data);
    // The format asks for a multiple of 8; less would leave numbers unaligned in the mapped file.
    if (!std::has_single_bit(alignment) || alignment < 8) {
      return fail("a power of two of at least 8", std::to_string(alignment), entry->offset);
    }
    file_.alignment = alignment;
    return {};
  }

  Status reject_split() {
    const KeyValue* entry = file_.find("split.count");
    if (entry == nullptr) return {};
    const auto* count = std::get_if<uint64_t>(&entry->value.data);
    if (count != nullptr && *count <= 1) return {};
    context_ = "key split.count";
    return fail("a model in one file (join the parts with llama-gguf-split --merge)",
                "one part of a split model", entry->offset);
  }

  Status read_tensor(uint64_t index) {
    context_ = "tensor number " + std::to_string(index);
    Tensor tensor;
    const uint64_t at = cursor_.position();
    PM_TRY(read_string(tensor.name, kMaxTensorName, "a tensor name"));
    if (!is_name(tensor.name)) {
      return fail("a tensor name of printable ASCII characters", "'" + printable(tensor.name) + "'",
                  at);
    }
    context_ = "tensor " + tensor.name;
    if (!file_.tensor_index.emplace(tensor.name, file_.tensors.size()).second) {
      return fail("tensor names that differ", "this name a second time", at);
    }
    PM_TRY(read_shape(tensor));
    const uint64_t type_at = cursor_.position();
    PM_TRY(read(tensor.type, "a tensor type"));
    PM_TRY(set_bytes(tensor, type_at));
    PM_TRY(read(tensor.offset, "a tensor's offset"));
    file_.tensors.push_back(std::move(tensor));
    return {};
  }

  Status read_shape(Tensor& tensor) {
    const uint64_t at = cursor_.position();
    PM_TRY(read(tensor.dims, "a number of dimensions"));
    // Zero dimensions is a scalar: exporters write some constants so.
    if (tensor.dims > kMaxDims) {
      return fail("at most 4 dimensions", std::to_string(tensor.dims), at);
    }
    uint64_t elements = 1;
    for (uint32_t i = 0; i < tensor.dims; ++i) {
      const uint64_t dim_at = cursor_.position();
      PM_TRY(read(tensor.shape[i], "a dimension"));
      if (tensor.shape[i] == 0) return fail("a dimension of at least 1", "0", dim_at);
      if (!multiply(elements, tensor.shape[i], elements) ||
          elements >= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return fail("fewer than 2^63 - 1 elements",
                    "a dimension of " + std::to_string(tensor.shape[i]), dim_at);
      }
    }
    return {};
  }

  Status set_bytes(Tensor& tensor, uint64_t at) {
    const TensorTraits* traits = tensor_traits(tensor.type);
    if (traits == nullptr) {
      return fail("a known tensor type below " + std::to_string(tensor_type_count()),
                  std::to_string(tensor.type), at);
    }
    if (tensor.shape[0] % traits->block_elements != 0) {
      return fail("rows that are a multiple of " + std::to_string(traits->block_elements) +
                      " elements for type " + std::string(traits->name),
                  std::to_string(tensor.shape[0]), at);
    }
    if (!multiply(tensor.elements() / traits->block_elements, traits->block_bytes, tensor.bytes)) {
      return fail("a size below 2^64 bytes", "more", at);
    }
    return {};
  }

  // Tensors lie one behind the other in the order listed, each padded to the alignment: no gaps,
  // no overlaps. The padding of the last one may be missing.
  Status check_data_section() {
    context_.clear();
    const uint64_t header_end = cursor_.position();
    if (file_.tensors.empty()) {
      file_.data_offset = header_end;
      return {};
    }
    if (!pad(header_end, file_.alignment, file_.data_offset) || file_.data_offset > file_bytes_) {
      return fail("tensor data", "the end of the file at " + std::to_string(file_bytes_),
                  header_end);
    }
    const uint64_t available = file_bytes_ - file_.data_offset;
    uint64_t next = 0;
    for (const Tensor& tensor : file_.tensors) {
      context_ = "tensor " + tensor.name;
      if (tensor.offset != next) {
        return fail("tensor data that follows the previous tensor, " + std::to_string(next),
                    std::to_string(tensor.offset), header_end);
      }
      if (next > available || tensor.bytes > available - next) {
        return fail(std::to_string(tensor.bytes) + " bytes of tensor data",
                    "the end of the file at " + std::to_string(file_bytes_),
                    file_.data_offset + std::min(next, available));
      }
      uint64_t padded = 0;
      if (!pad(tensor.bytes, file_.alignment, padded) || next > kNoLimit - padded) {
        return fail("a size below 2^64 bytes", "more", header_end);
      }
      next += padded;
    }
    return {};
  }

  Limits limits_;
  uint64_t file_bytes_;
  Cursor cursor_;
  GgufFile file_;
  uint64_t tensor_count_ = 0;
  uint64_t key_count_ = 0;
  // What is being read, for messages: "key general.name".
  std::string context_;
};

Result<GgufFile> parse(Source& source, const Limits& limits) {
  try {
    return Parser(source, limits).parse();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kOutOfMemory, "expected enough memory for the GGUF file's metadata"};
  } catch (const std::length_error&) {
    return Error{ErrorCode::kOutOfMemory, "expected enough memory for the GGUF file's metadata"};
  }
}

}  // namespace

Result<GgufFile> read_gguf(const std::string& path, const Limits& limits) {
  auto source = FileSource::open(path);
  if (!source) return source.error();
  return parse(source.value(), limits);
}

Result<GgufFile> parse_gguf(std::span<const std::byte> bytes, const Limits& limits) {
  MemorySource source(bytes);
  return parse(source, limits);
}

}  // namespace pm::gguf
