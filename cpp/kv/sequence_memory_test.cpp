#include "kv/sequence_memory.h"

#include <gtest/gtest.h>

namespace pm {
namespace {

TEST(ReservationLedger, GrowsAndGivesBackExactly) {
  ReservationLedger ledger(100, 2);
  EXPECT_TRUE(ledger.reserve(0, 60));
  EXPECT_FALSE(ledger.reserve(1, 41));
  EXPECT_EQ(ledger.reserved(), 60u);
  EXPECT_TRUE(ledger.reserve(1, 40));
  EXPECT_TRUE(ledger.reserve(0, 30));  // a promise never shrinks
  EXPECT_EQ(ledger.reserved(), 100u);
  EXPECT_FALSE(ledger.reserve(0, 61));
  ledger.release(1);
  EXPECT_EQ(ledger.reserved(), 60u);
  EXPECT_TRUE(ledger.reserve(0, 100));
  ledger.release(0);
  ledger.release(0);
  EXPECT_EQ(ledger.reserved(), 0u);
}

TEST(ReservationLedger, RefusesSequencesItDoesNotHave) {
  ReservationLedger ledger(100, 2);
  EXPECT_FALSE(ledger.reserve(2, 1));
  EXPECT_FALSE(ledger.reserve(-1, 1));
  ledger.release(7);
  EXPECT_EQ(ledger.reserved(), 0u);
}

}  // namespace
}  // namespace pm
