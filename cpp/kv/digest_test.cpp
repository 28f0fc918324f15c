#include "kv/digest.h"

#include <gtest/gtest.h>

#include <string>

namespace pm {
namespace {

std::string hex(std::span<const uint8_t> bytes) {
  std::string text;
  for (const uint8_t byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string sha256(const std::string& text, size_t piece) {
  Sha256 hash;
  const std::span all(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  for (size_t i = 0; i < all.size(); i += piece) {
    hash.update(all.subspan(i, std::min(piece, all.size() - i)));
  }
  return hex(hash.finish());
}

// FIPS 180-4's examples.
TEST(Sha256, MatchesPublishedDigests) {
  for (const size_t piece : {1u, 7u, 64u, 4096u}) {
    EXPECT_EQ(sha256("", piece),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(sha256("abc", piece),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", piece),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(sha256(std::string(1000000, 'a'), piece),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

// Every length around the block border takes its own path through the padding.
TEST(Sha256, PadsEveryLength) {
  std::string digests;
  for (size_t length = 0; length <= 130; ++length) digests += sha256(std::string(length, 'x'), 64);
  EXPECT_EQ(sha256(digests, 64),
            "87aca1c44bc7ba8897768170211f0a02063de70801131ff86c7edb9ce32c6a50");
}

DigestChain chain_of(const Digest& root, int first, int count) {
  DigestChain chain(root);
  for (int i = 0; i < count; ++i) chain.add_token(first + i);
  return chain;
}

TEST(DigestChain, NamesFullPagesByAllThatCameBefore) {
  const Digest root = chain_root({"m", "c", "", ""});
  const DigestChain a = chain_of(root, 0, 100);
  EXPECT_EQ(a.pages().size(), 3u);
  EXPECT_EQ(a.tokens(), 100u);
  const DigestChain b = chain_of(root, 0, 64);
  ASSERT_EQ(b.pages().size(), 2u);
  EXPECT_EQ(b.pages()[1], a.pages()[1]);
  // Page 1 has the same tokens, page 0 does not.
  DigestChain c(root);
  c.add_token(7);
  for (int i = 1; i < 64; ++i) c.add_token(i);
  EXPECT_NE(c.pages()[0], a.pages()[0]);
  EXPECT_NE(c.pages()[1], a.pages()[1]);
}

TEST(DigestChain, LeavesATokenToEvaluate) {
  const Digest root = chain_root({});
  EXPECT_EQ(chain_of(root, 0, 0).lookup().size(), 0u);
  EXPECT_EQ(chain_of(root, 0, 32).lookup().size(), 0u);
  EXPECT_EQ(chain_of(root, 0, 33).lookup().size(), 1u);
  EXPECT_EQ(chain_of(root, 0, 64).lookup().size(), 1u);
  EXPECT_EQ(chain_of(root, 0, 65).lookup().size(), 2u);
}

TEST(DigestChain, SaltSeparatesTenantsAdaptersModelsAndConfigurations) {
  const std::vector<ChainSalt> salts = {
      {"m", "c", "a", "t"}, {"m", "c", "a", "u"}, {"m", "c", "b", "t"}, {"m", "d", "a", "t"},
      {"n", "c", "a", "t"}, {"mc", "", "a", "t"}, {"m", "c", "at", ""}, {"m", "c", "", "at"}};
  for (size_t i = 0; i < salts.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      EXPECT_NE(chain_of(chain_root(salts[i]), 0, 32).pages()[0],
                chain_of(chain_root(salts[j]), 0, 32).pages()[0]);
    }
  }
}

TEST(DigestChain, MediaCountByContentAndOffset) {
  const Digest root = chain_root({});
  const auto page = [&](const Digest& media, uint32_t first) {
    DigestChain chain(root);
    for (uint32_t i = 0; i < 32; ++i) chain.add_media(media, first + i);
    return chain.pages()[0];
  };
  const uint8_t one[] = {1}, two[] = {2};
  EXPECT_EQ(page(digest_of(one), 0), page(digest_of(one), 0));
  EXPECT_NE(page(digest_of(one), 0), page(digest_of(two), 0));
  EXPECT_NE(page(digest_of(one), 0), page(digest_of(one), 32));
}

}  // namespace
}  // namespace pm
