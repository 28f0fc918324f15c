#include "core/utf8.h"

#include <gtest/gtest.h>

namespace pm {
namespace {

TEST(Utf8, PrefixEndsBeforeAnUnfinishedCharacter) {
  const std::string euro = "\xE2\x82\xAC";
  EXPECT_EQ(complete_utf8_prefix("abc"), 3u);
  EXPECT_EQ(complete_utf8_prefix(""), 0u);
  EXPECT_EQ(complete_utf8_prefix("a" + euro), 4u);
  EXPECT_EQ(complete_utf8_prefix("a" + euro.substr(0, 1)), 1u);
  EXPECT_EQ(complete_utf8_prefix("a" + euro.substr(0, 2)), 1u);
  const std::string emoji = "\xF0\x9F\x98\x80";
  for (size_t cut = 1; cut < 4; ++cut) {
    EXPECT_EQ(complete_utf8_prefix("xy" + emoji.substr(0, cut)), 2u) << cut;
  }
  EXPECT_EQ(complete_utf8_prefix("xy" + emoji), 6u);
}

TEST(Utf8, BytesThatCanNeverCompleteAreNotHeldBack) {
  EXPECT_EQ(complete_utf8_prefix("a\xFF"), 2u);
  EXPECT_EQ(complete_utf8_prefix("a\x80"), 2u);
  EXPECT_EQ(complete_utf8_prefix("a\xC0"), 2u);      // overlong lead
  EXPECT_EQ(complete_utf8_prefix("a\xED\xA0"), 3u);  // surrogate
  EXPECT_EQ(complete_utf8_prefix("a\xF4\x90"), 3u);  // above U+10FFFF
}

TEST(Utf8, SanitizeReplacesOnlyWhatIsInvalid) {
  EXPECT_EQ(sanitize_utf8("ok \xE2\x82\xAC"), "ok \xE2\x82\xAC");
  EXPECT_EQ(sanitize_utf8("a\xFFz"), "a\xEF\xBF\xBDz");
  EXPECT_EQ(sanitize_utf8("a\xE2\x82"), "a\xEF\xBF\xBD");
  EXPECT_EQ(sanitize_utf8(std::string_view("\0x", 2)), std::string("\0x", 2));
}

}  // namespace
}  // namespace pm
