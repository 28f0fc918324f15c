#include "core/json_writer.h"

#include <gtest/gtest.h>

#include <limits>

namespace pm {
namespace {

TEST(JsonWriter, NestsAndSeparates) {
  JsonWriter json;
  json.begin_object();
  json.key("a").begin_array().value(1).value(2.5).value("x").end_array();
  json.field("b", true).field("c", int64_t{-7});
  json.key("d").begin_object().end_object();
  json.key("e").begin_array().begin_object().end_object().value(3).end_array();
  json.end_object();
  EXPECT_EQ(json.str(), R"({"a":[1,2.5,"x"],"b":true,"c":-7,"d":{},"e":[{},3]})");
}

TEST(JsonWriter, EscapesText) {
  JsonWriter json;
  json.value(std::string("q\" b\\ n\n t\t \x01 \xFF"));
  EXPECT_EQ(json.str(), "\"q\\\" b\\\\ n\\n t\\t \\u0001 \xEF\xBF\xBD\"");
}

TEST(JsonWriter, NumbersWithoutAJsonFormAreNull) {
  JsonWriter json;
  json.begin_array();
  json.value(std::numeric_limits<double>::quiet_NaN());
  json.value(std::numeric_limits<double>::infinity());
  json.end_array();
  EXPECT_EQ(json.str(), "[null,null]");
}

}  // namespace
}  // namespace pm
