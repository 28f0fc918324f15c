#include "engines/llama/gbnf.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>

#include "core/utf8.h"

namespace pm::llama {
namespace {

// llama.cpp recurses once for each; its stack is that of a pool thread.
constexpr size_t kMaxDepth = 200;
// llama.cpp's MAX_REPETITION_THRESHOLD: it refuses a larger lower bound or product of nested
// bounds.
constexpr uint64_t kMaxRepetition = 2000;
// Elements after all repetitions are written out, 8 bytes each.
constexpr uint64_t kMaxElements = 1u << 22;

bool is_digit(char c) { return '0' <= c && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || ('a' <= c && c <= 'f') || ('A' <= c && c <= 'F'); }
bool is_word(char c) {
  return is_digit(c) || ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || c == '-';
}

// One pass over the text with the rules of llama_grammar_parser (src/llama-grammar.cpp). Where that
// keeps elements, this counts them.
class Scan {
 public:
  Scan(std::string_view text, const GbnfVocabulary& vocabulary)
      : text_(text), vocabulary_(vocabulary) {}

  Result<GbnfFacts> run() {
    if (const size_t nul = text_.find('\0'); nul != std::string_view::npos) {
      at_ = nul;
      return expected("no NUL character");
    }
    skip_space(true);
    while (!at_end()) PM_TRY(rule());
    for (const auto& [name, defined] : rules_) {
      if (!defined) return expected("a definition of the rule '" + name + "'");
    }
    if (!rules_.contains("root")) return expected("a rule named root");
    return facts_;
  }

 private:
  // The sequence being read: what a repetition refers to.
  struct Sequence {
    uint64_t item = 0;         // elements of the last item; 0: nothing to repeat
    uint64_t repetitions = 1;  // rules behind the last item times its repetitions so far
  };

  bool at_end() const { return at_ >= text_.size(); }
  // NUL at the end, as in a C string; NULs inside were refused.
  char peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  Error expected(const std::string& what) const {
    const std::string_view before = text_.substr(0, std::min(at_, text_.size()));
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t column = before.size() - (before.rfind('\n') + 1) + 1;
    std::string found = at_end() ? "the end" : sanitize_utf8(text_.substr(at_, 20));
    found.resize(std::min(found.size(), found.find_first_of("\r\n")));
    return {ErrorCode::kInvalidRequest, "expected " + what + " in line " + std::to_string(line) +
                                            ", column " + std::to_string(column) + ", found " +
                                            (found.empty() ? "the end of the line" : found)};
  }

  void skip_space(bool newlines) {
    while (true) {
      const char c = peek();
      if (c == '#') {
        while (!at_end() && peek() != '\r' && peek() != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || (newlines && (c == '\r' || c == '\n'))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string name() {
    const size_t from = at_;
    while (is_word(peek())) ++at_;
    return std::string(text_.substr(from, at_ - from));
  }

  Status rule() {
    const std::string defined = name();
    if (defined.empty()) return expected("the name of a rule (letters, digits and -)");
    skip_space(false);
    if (text_.substr(at_, 3) != "::=") return expected("::=");
    at_ += 3;
    rules_[defined] = true;
    skip_space(true);
    PM_TRY(alternates(0));
    if (take('\r')) {
      take('\n');
    } else if (!take('\n') && !at_end()) {
      return expected("an item of the rule, or a new line");
    }
    skip_space(true);
    return {};
  }

  Status alternates(size_t depth) {
    PM_TRY(sequence(depth));
    while (take('|')) {
      skip_space(true);
      PM_TRY(sequence(depth));
    }
    return add_elements(1);
  }

  Status sequence(size_t depth) {
    Sequence state;
    while (true) {
      switch (peek()) {
        case '*':
        case '+':
        case '?':
        case '{':
          PM_TRY(repetition(state, depth > 0));
          break;
        case '(':
          PM_TRY(group(state, depth));
          break;
        default: {
          const auto elements = simple_item();
          if (!elements) return elements.error();
          if (!elements.value()) return {};
          state = {*elements.value(), 1};
        }
      }
      PM_TRY(add_elements(state.item));
      skip_space(depth > 0);
    }
  }

  // Elements of the item that begins here; nothing where none does.
  Result<std::optional<uint64_t>> simple_item() {
    const char c = peek();
    if (c == '"' || c == '[') return characters();
    if (c == '<' || c == '!') return token();
    if (c == '.') {
      ++at_;
      return std::optional<uint64_t>(1);
    }
    if (!is_word(c)) return std::optional<uint64_t>();
    rules_.try_emplace(name(), false);
    return std::optional<uint64_t>(1);
  }

  // A literal, or a character class.
  Result<std::optional<uint64_t>> characters() {
    const bool is_class = peek() == '[';
    const char close = is_class ? ']' : '"';
    ++at_;
    if (is_class) take('^');
    uint64_t count = 0;
    for (; !take(close); ++count) {
      PM_TRY(character());
      const bool is_range = is_class && peek() == '-' && peek(1) != ']';
      if (!is_range) continue;
      ++at_;
      ++count;
      PM_TRY(character());
    }
    return std::optional<uint64_t>(count);
  }

  Status character() {
    if (at_end()) return expected("the end of a literal or character class");
    if (peek() == '\\') return escape();
    // llama.cpp takes as many bytes as the first one promises, and would run over a quotation mark.
    const auto lead = static_cast<unsigned char>(peek());
    const size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    const std::string_view bytes = text_.substr(at_, length);
    if (bytes.size() < length || sanitize_utf8(bytes) != bytes) {
      return expected("whole UTF-8 characters");
    }
    at_ += length;
    return {};
  }

  Status escape() {
    const char kind = peek(1);
    const size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    const bool known = digits > 0 || (kind != '\0' && std::string_view("trn\\\"[]-").find(kind) !=
                                                          std::string_view::npos);
    if (!known) return expected(R"(one of the escapes \t \r \n \\ \" \[ \] \- \x \u \U)");
    for (size_t i = 0; i < digits; ++i) {
      if (!is_hex(peek(2 + i))) {
        return expected(std::to_string(digits) + " hexadecimal digits after \\" + kind);
      }
    }
    at_ += 2 + digits;
    return {};
  }

  // <name>, <[id]>, and either with ! before it.
  Result<std::optional<uint64_t>> token() {
    take('!');
    const size_t from = at_;
    const size_t close = text_.find('>', at_);
    if (peek() != '<' || close == std::string_view::npos) return expected("a token: <name>");
    const std::string_view tag = text_.substr(from, close + 1 - from);
    if (tag.starts_with("<[")) {
      const auto id = tag.ends_with("]>") ? number(tag.substr(2, tag.size() - 4)) : std::nullopt;
      if (!id || *id >= vocabulary_.size) {
        return expected("a token id: <[0]> to <[" + std::to_string(vocabulary_.size - 1) + "]>");
      }
    } else if (!vocabulary_.is_token(tag)) {
      return expected("a single token of this vocabulary");
    }
    at_ = close + 1;
    facts_.names_tokens = true;
    return std::optional<uint64_t>(1);
  }

  static std::optional<uint64_t> number(std::string_view digits) {
    uint64_t value = 0;
    const auto end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, value);
    if (digits.empty() || parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
    return value;
  }

  Status group(Sequence& state, size_t depth) {
    if (depth >= kMaxDepth) {
      return expected("at most " + std::to_string(kMaxDepth) + " nested parentheses");
    }
    ++at_;
    skip_space(true);
    const uint64_t before = symbols();
    ++generated_;
    PM_TRY(alternates(depth + 1));
    if (!take(')')) return expected("')' or an item");
    state = {1, std::max<uint64_t>(1, symbols() - before)};
    return {};
  }

  struct Bounds {
    uint64_t low = 0;
    std::optional<uint64_t> high;
  };

  // `newlines`: may stand between the parts, as everywhere inside parentheses.
  Status repetition(Sequence& state, bool newlines) {
    if (state.item == 0) return expected("something before a repetition");
    const auto bounds = peek() == '{' ? braces(newlines) : symbol();
    if (!bounds) return bounds.error();
    const auto [low, high] = bounds.value();

    const uint64_t copies = high && *high > 0 ? *high : std::max<uint64_t>(1, low);
    if (state.repetitions * copies > kMaxRepetition) {
      return expected("at most " + std::to_string(kMaxRepetition) + " repetitions, nested ones " +
                      "and the rules of a group multiplied");
    }
    state.repetitions *= copies;
    // One rule for each copy that may be missing.
    const uint64_t optional = high ? *high - low : 1;
    generated_ += optional;
    PM_TRY(add_elements(optional * (state.item + 3)));
    state.item = low * state.item + (optional > 0 ? 1 : 0);
    return {};
  }

  Result<Bounds> symbol() {
    const char c = text_[at_++];
    if (c == '?') return Bounds{0, 1};
    return Bounds{c == '+' ? 1u : 0u, std::nullopt};
  }

  Result<Bounds> braces(bool newlines) {
    ++at_;
    const auto low = bound(newlines);
    if (!low) return expected("a number of repetitions, at most " + std::to_string(kMaxRepetition));
    Bounds bounds{*low, *low};
    if (take(',')) {
      skip_space(newlines);
      bounds.high.reset();
      if (is_digit(peek())) {
        bounds.high = bound(newlines);
        // llama.cpp takes a larger bound for none at all.
        if (!bounds.high || *bounds.high < bounds.low) {
          return expected("an upper bound from " + std::to_string(bounds.low) + " to " +
                          std::to_string(kMaxRepetition));
        }
      }
    }
    if (!take('}')) return expected("'}'");
    return bounds;
  }

  // The number here, with the space around it; nothing when there is none or it is too large.
  std::optional<uint64_t> bound(bool newlines) {
    skip_space(newlines);
    const size_t from = at_;
    while (is_digit(peek(0))) ++at_;
    const auto value = number(text_.substr(from, at_ - from));
    if (!value || *value > kMaxRepetition) {
      at_ = from;
      return std::nullopt;
    }
    skip_space(newlines);
    return value;
  }

  // Rules by name, and those llama.cpp makes for groups and repetitions.
  uint64_t symbols() const { return rules_.size() + generated_; }

  Status add_elements(uint64_t count) {
    elements_ += count;
    if (elements_ <= kMaxElements) return {};
    return expected("at most " + std::to_string(kMaxElements) +
                    " elements when all repetitions are written out");
  }

  std::string_view text_;
  const GbnfVocabulary& vocabulary_;
  size_t at_ = 0;
  std::map<std::string, bool> rules_;  // name → defined
  uint64_t generated_ = 0;
  uint64_t elements_ = 0;
  GbnfFacts facts_;
};

}  // namespace

Result<GbnfFacts> check_gbnf(std::string_view grammar, const GbnfVocabulary& vocabulary) {
  return Scan(grammar, vocabulary).run();
}

}  // namespace pm::llama
