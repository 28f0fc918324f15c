// Random operations on pools, tables, prefix cache and spill file together, against a model in
// which every sequence is a plain list of tokens. Every token has a number for content, which the
// real side keeps in the "bytes" of its slot: a wrong copy, a page given away too early or a wrong
// page from the cache shows as a wrong number.
//
// POLYMIND_KV_SEQUENCES: how many scripts (2,000); POLYMIND_KV_SEED: the first one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "kv/kv_test_rig.h"
#include "kv/spill_file.h"

namespace pm {
namespace {

using namespace kv_test;

// The model of a sequence, and what its owner keeps about it.
struct Model {
  std::vector<Token> tokens;
  Pos next = 0;
  // While it holds nothing but the start of the script, others may share it.
  bool chained = true;
  std::string letters;
  Script script;
  PrefixCache::Lease lease;
};

struct Coverage {
  size_t copies = 0, adopted = 0, refused = 0, spilled = 0, restored = 0, missed = 0, evicted = 0;
};

class Machine {
 public:
  Machine(uint64_t seed, SpillFile& spill, Coverage& coverage)
      : seed_(seed), random_(seed), spill_(spill), coverage_(coverage) {
    rig_.cache.set_eviction_listener([this](const Digest& digest, std::span<const PageId> pages) {
      const KvRecord record = capture_page(digest, kAllSlots, pages, rig_.groups, rig_.memory);
      coverage_.spilled += spill_.store(record);
      ++coverage_.evicted;
    });
  }

  void run(int operations) {
    for (int i = 0; i < operations && !::testing::Test::HasFailure(); ++i) {
      operate();
      check();
    }
    for (SeqId seq = 0; seq < kSequences; ++seq) cancel(seq);
    check();
    rig_.cache.clear();
    for (size_t group = 0; group < kGroups; ++group) {
      EXPECT_EQ(rig_.pools[group].used(), 0u);
      EXPECT_EQ(rig_.pools[group].shared(), 0u);
      rig_.pools[group].trim();
      EXPECT_TRUE(rig_.slabs[group].live.empty());
    }
  }

 private:
  size_t below(size_t limit) { return random_() % limit; }
  SeqId any_sequence() { return static_cast<SeqId>(below(kSequences)); }
  Model& model(SeqId seq) { return models_[static_cast<size_t>(seq)]; }

  void operate() {
    const SeqId seq = any_sequence();
    if (model(seq).tokens.empty() && below(4) != 0) return start(seq);
    switch (below(20)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
      case 16:
      case 17:
      case 18:
        return step();
      case 6:
        return fork(seq, any_sequence());
      case 7:
        return truncate(seq);
      case 8:
        return remove_middle(seq);
      case 9:
        return cancel(seq);
      case 10:
      case 11:
        return publish(seq);
      case 12:
        return evict();
      case 13:
        return restore(seq);
      case 14:
        return fail_allocations();
      default:
        return disturb();
    }
  }

  // ---- operations ----

  void start(SeqId seq) {
    cancel(seq);
    set_script(model(seq), letters(2 + below(8)));
    restore(seq);
  }

  std::string letters(size_t count) {
    std::string result;
    for (; count > 0; --count) result += "aaaaaabi"[below(8)];
    return result;
  }

  void set_script(Model& m, const std::string& letters) {
    m.letters = letters;
    m.script = make_script(seed_, letters);
  }

  // Takes over what the cache has beyond the sequence's own pages.
  void adopt(SeqId seq) {
    Model& m = model(seq);
    const size_t own = m.lease.depth();
    if (!m.chained || m.tokens.size() != own * kPageTokens) return;
    const auto runs = rig_.cache.match(m.lease, m.script.lookup);
    const size_t depth = m.lease.depth();
    if (depth == own) return;
    for (size_t group = 0; group < kGroups; ++group) {
      EXPECT_TRUE(rig_.tables[group].adopt(seq, runs[group].first, runs[group].pages));
    }
    m.tokens.assign(m.script.tokens.begin(),
                    m.script.tokens.begin() + static_cast<std::ptrdiff_t>(depth * kPageTokens));
    m.next = m.tokens.back().next;
    ++coverage_.adopted;
  }

  struct Part {
    std::vector<SeqId> owners;
    std::vector<Token> tokens;
  };
  // A step, and what it makes of the sequences.
  struct Plan {
    struct After {
      size_t tokens;
      Pos next;
      bool chained;
    };
    std::vector<Part> parts;
    std::vector<After> after;
  };

  Plan plan_step() {
    Plan plan;
    for (const Model& m : models_) plan.after.push_back({m.tokens.size(), m.next, m.chained});
    for (size_t parts = 1 + below(3); parts > 0; --parts) plan_part(plan);
    return plan;
  }

  // New tokens of one sequence, or some that several own.
  void plan_part(Plan& plan) {
    const SeqId first = any_sequence();
    Part part{{first}, {}};
    const bool coupled = below(10) == 0;
    for (SeqId seq = 0; seq < kSequences; ++seq) {
      if (coupled && seq != first && below(2) == 0) part.owners.push_back(seq);
    }
    Model& m = model(first);
    if (m.chained && m.script.tokens.size() < m.tokens.size() + 80 && below(8) != 0) {
      set_script(m, m.letters + letters(4));
    }
    const size_t start = plan.after[static_cast<size_t>(first)].tokens;
    const bool scripted = part.owners.size() == 1 &&
                          plan.after[static_cast<size_t>(first)].chained &&
                          start < m.script.tokens.size();
    const size_t count = 1 + below(below(2) == 0 ? 70 : 6);
    for (size_t i = 0; i < count; ++i) {
      if (scripted && start + i == m.script.tokens.size()) break;
      const Token token = scripted ? m.script.tokens[start + i] : free_token(part.owners, plan);
      part.tokens.push_back(token);
      for (const SeqId owner : part.owners) {
        auto& after = plan.after[static_cast<size_t>(owner)];
        after = {after.tokens + 1, token.next, scripted};
      }
    }
    plan.parts.push_back(std::move(part));
  }

  void step() {
    const Plan plan = plan_step();
    std::vector<TokenGroup> step;
    for (const Part& part : plan.parts) step.push_back({part.owners, part.tokens.size()});
    if (!rig_.make_room(step)) {
      ++coverage_.refused;
      return;  // check() finds the state as it was
    }
    for (size_t group = 0; group < kGroups; ++group) append(group, plan, step);
    for (const Part& part : plan.parts) {
      for (const SeqId owner : part.owners) {
        auto& tokens = model(owner).tokens;
        tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
      }
    }
    for (SeqId seq = 0; seq < kSequences; ++seq) {
      model(seq).next = plan.after[static_cast<size_t>(seq)].next;
      model(seq).chained = plan.after[static_cast<size_t>(seq)].chained;
      if (below(3) == 0) publish(seq);
      rig_.tables[1].slide(seq, model(seq).next);
    }
  }

  // As a step does it: all slots, then all copies, then all bytes.
  void append(size_t group, const Plan& plan, std::span<const TokenGroup> step) {
    const size_t needed = rig_.tables[group].pages_needed(step);
    const size_t used = rig_.pools[group].used();
    std::vector<PageCopy> copies;
    std::vector<std::pair<SlotId, uint64_t>> writes;
    rig_.tables[group].begin_step();
    for (const Part& part : plan.parts) {
      for (const Token& token : part.tokens) {
        const auto slot = rig_.tables[group].append(part.owners, token.place, copies);
        ASSERT_TRUE(slot);
        writes.emplace_back(*slot, token.content);
      }
    }
    EXPECT_EQ(rig_.pools[group].used() - used, needed);
    for (const PageCopy& copy : copies) rig_.copy_slots(group, copy);
    for (const auto& [slot, content] : writes) rig_.memory.slot(group, slot) = content;
    coverage_.copies += copies.size();
  }

  Token free_token(const std::vector<SeqId>& owners, const Plan& plan) {
    Pos pos = 0;
    for (const SeqId owner : owners)
      pos = std::max(pos, plan.after[static_cast<size_t>(owner)].next);
    return {{pos, 1, 2}, ++unique_, pos + 1, true};
  }

  // Would a sequence with these tokens find its window in what `seq` holds now?
  bool window_complete(SeqId seq, const std::vector<Token>& tokens, Pos next) {
    const std::vector<Token> held = rig_.actual(1, seq);
    return std::all_of(tokens.begin(), tokens.end(), [&](const Token& token) {
      if (token.place.pos <= next - kWindow) return true;
      return std::any_of(held.begin(), held.end(),
                         [&](const Token& other) { return other.content == token.content; });
    });
  }

  static std::vector<Token> between(const std::vector<Token>& tokens, Pos from, Pos to) {
    std::vector<Token> result;
    for (const Token& token : tokens) {
      if (token.place.pos >= from && token.place.pos < to) result.push_back(token);
    }
    return result;
  }

  void fork(SeqId from_seq, SeqId to_seq) {
    const Model& source = model(from_seq);
    if (from_seq == to_seq || source.tokens.empty()) return;
    const bool whole = below(2) == 0;
    const Pos from = whole ? 0 : static_cast<Pos>(below(static_cast<size_t>(source.next) + 1));
    const Pos to = whole ? source.next : from + 1 + static_cast<Pos>(below(60));
    const std::vector<Token> tokens = between(source.tokens, from, to);
    const Pos next = tokens.empty() ? 0 : std::max(to, tokens.back().next);
    if (!window_complete(from_seq, tokens, next)) return;
    cancel(to_seq);
    for (PageTables& tables : rig_.tables) tables.fork(from_seq, to_seq, from, to);
    Model& target = model(to_seq);
    target.tokens = tokens;
    target.next = tokens.empty() ? 0 : next;
    target.chained = whole && source.chained;
    if (!target.chained) return;
    set_script(target, source.letters);
    target.lease = source.lease.share();
  }

  void truncate(SeqId seq) {
    Model& m = model(seq);
    if (m.tokens.empty()) return;
    size_t length = below(m.tokens.size());
    while (length > 0 && !m.tokens[length - 1].boundary) --length;
    const std::vector<Token> tokens(m.tokens.begin(),
                                    m.tokens.begin() + static_cast<std::ptrdiff_t>(length));
    const Pos next = length == 0 ? 0 : tokens.back().next;
    // Sequences that were put together from pieces need not be in order.
    if (between(m.tokens, 0, next).size() != length) return;
    if (!window_complete(seq, tokens, next)) return cancel(seq);
    for (PageTables& tables : rig_.tables) tables.remove(seq, next);
    m.tokens = tokens;
    m.next = next;
    if (length == 0) return cancel(seq);
    m.lease.retreat(length / kPageTokens);
    if (m.chained && below(2) == 0) branch(m);
  }

  // Goes on differently than planned, where that is possible between two letters.
  void branch(Model& m) {
    for (size_t letters = 0; letters <= m.letters.size(); ++letters) {
      const Script start = make_script(seed_, m.letters.substr(0, letters));
      if (start.tokens.size() != m.tokens.size()) continue;
      return set_script(m, m.letters.substr(0, letters) + "ab"[below(2)] + "bab");
    }
  }

  void remove_middle(SeqId seq) {
    Model& m = model(seq);
    if (m.tokens.size() < 3) return;
    const Pos from = 1 + static_cast<Pos>(below(static_cast<size_t>(m.next) + 1));
    const Pos to = from + 1 + static_cast<Pos>(below(below(2) == 0 ? 5 : 80));
    const size_t before = m.tokens.size();
    std::erase_if(m.tokens, [&](const Token& token) {
      return token.place.pos >= from && token.place.pos < to;
    });
    for (PageTables& tables : rig_.tables) tables.remove(seq, from, to);
    if (m.tokens.size() == before) return;
    m.chained = false;
    m.lease.reset();
    if (m.tokens.empty()) cancel(seq);
  }

  void cancel(SeqId seq) {
    for (PageTables& tables : rig_.tables) tables.remove(seq, 0);
    model(seq) = Model();
  }

  // Offers the full pages of a sequence to others.
  void publish(SeqId seq) {
    Model& m = model(seq);
    if (!m.chained) return;
    const FullPages global = rig_.tables[0].full_pages(seq);
    const FullPages windowed = rig_.tables[1].full_pages(seq);
    ASSERT_EQ(global.first, 0u);
    ASSERT_EQ(global.entries.size(), m.tokens.size() / kPageTokens);
    for (size_t page = m.lease.depth(); page < global.entries.size(); ++page) {
      PageId pages[kGroups] = {global.entries[page].page, kNoPage};
      if (page >= windowed.first && page - windowed.first < windowed.entries.size()) {
        pages[1] = windowed.entries[page - windowed.first].page;
        for (size_t slot = 0; slot < kPageTokens; ++slot) {
          ASSERT_EQ(rig_.memory.slot(0, static_cast<SlotId>(pages[0] * kPageTokens + slot)),
                    rig_.memory.slot(1, static_cast<SlotId>(pages[1] * kPageTokens + slot)));
        }
      }
      const Pos last = rig_.tables[0].span(global.entries[page]).pos_max;
      ASSERT_TRUE(rig_.cache.insert(m.lease, m.script.pages[page], pages, last));
    }
  }

  void evict() {
    const size_t group = below(kGroups);
    const size_t wanted = 1 + below(4);
    const size_t used = rig_.pools[group].used();
    const size_t available = rig_.cache.evictable(group);
    const size_t gained = rig_.cache.evict(group, wanted);
    EXPECT_GE(gained, std::min(wanted, available));
    EXPECT_EQ(used - rig_.pools[group].used(), gained);
    EXPECT_LE(gained, wanted);
  }

  // Reads back what was spilled of the sequence's future, then goes on from there.
  void restore(SeqId seq) {
    Model& m = model(seq);
    if (!m.chained || m.tokens.size() != m.lease.depth() * kPageTokens) return;
    adopt(seq);
    PrefixCache::Lease ahead = m.lease.share();
    size_t asked = 0;
    for (size_t page = ahead.depth(); page < m.script.lookup.size(); ++page) {
      if (!spill_.fetch(m.script.lookup[page])) break;
      ++asked;
    }
    spill_.flush();
    const auto answers = spill_.poll();
    EXPECT_EQ(answers.size(), asked);
    for (const SpillFile::Fetched& answer : answers) {
      if (!answer.record) {
        ++coverage_.missed;
        break;
      }
      for (size_t group = 0; group < kGroups; ++group) {
        if (rig_.pools[group].free() == 0) rig_.cache.evict(group, 1);
        rig_.pools[group].commit(1);
      }
      const auto pages = place_record(*answer.record, rig_.groups, rig_.memory);
      if (!pages) break;
      const Pos last = rig_.tables[0].span({(*pages)[0], kAllSlots}).pos_max;
      EXPECT_TRUE(rig_.cache.insert(ahead, answer.digest, *pages, last));
      for (size_t group = 0; group < kGroups; ++group) {
        if ((*pages)[group] != kNoPage) rig_.pools[group].release((*pages)[group]);
      }
      ++coverage_.restored;
    }
    adopt(seq);
  }

  void fail_allocations() {
    for (FakeSlabs& slabs : rig_.slabs) slabs.fail_at = slabs.allocations + below(3);
    step();
  }

  void disturb() {
    switch (below(4)) {
      case 0:
        for (PagePool& pool : rig_.pools) pool.trim(below(4));
        return;
      case 1:
        return damage_file();
      case 2:
        return rig_.cache.clear();
      default: {
        const SeqId kept = any_sequence();
        if (below(4) != 0) return;
        for (PageTables& tables : rig_.tables) tables.keep_only(kept);
        for (SeqId seq = 0; seq < kSequences; ++seq) {
          if (seq != kept) cancel(seq);
        }
      }
    }
  }

  void damage_file() {
    spill_.flush();
    std::fstream file(spill_.path(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(0, std::ios::end);
    const auto size = static_cast<size_t>(file.tellg());
    if (size == 0) return;
    const auto at = static_cast<std::streamoff>(below(size));
    file.seekg(at);
    const char byte = static_cast<char>(file.get());
    file.seekp(at);
    file.put(static_cast<char>(byte ^ (1 << below(8))));
  }

  // ---- the model and the real thing ----

  void check() {
    for (SeqId seq = 0; seq < kSequences; ++seq) {
      check_tokens(seq);
      for (size_t group = 0; group < kGroups; ++group) rig_.check_bounds(group, seq);
    }
    for (size_t group = 0; group < kGroups; ++group) rig_.check_references(group);
  }

  void check_tokens(SeqId seq) {
    const Model& m = model(seq);
    const auto equal = [](const Token& a, const Token& b) {
      return a.place == b.place && a.content == b.content;
    };
    const std::vector<Token> global = rig_.actual(0, seq);
    ASSERT_TRUE(std::equal(global.begin(), global.end(), m.tokens.begin(), m.tokens.end(), equal));
    // Of the windowed group, the end, which must hold the window.
    const std::vector<Token> windowed = rig_.actual(1, seq);
    ASSERT_LE(windowed.size(), m.tokens.size());
    const auto start = m.tokens.end() - static_cast<std::ptrdiff_t>(windowed.size());
    ASSERT_TRUE(std::equal(start, m.tokens.end(), windowed.begin(), windowed.end(), equal));
    for (auto token = m.tokens.begin(); token != start; ++token) {
      ASSERT_LE(token->place.pos, m.next - kWindow);
    }
  }

  uint64_t seed_;
  std::mt19937_64 random_;
  SpillFile& spill_;
  Coverage& coverage_;
  uint64_t unique_ = uint64_t{1} << 63;
  Rig rig_;
  Model models_[kSequences];  // their leases go before the cache
};

uint64_t setting(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

TEST(KvRandomOperations, AgreeWithASimpleModel) {
  const uint64_t scripts = setting("POLYMIND_KV_SEQUENCES", 2000);
  const uint64_t first = setting("POLYMIND_KV_SEED", 0);
  TemporaryFolder folder;
  FakePageBytes sizes(kGroups, 1);
  const RecordLayout layout{{}, {}, {sizes.page_bytes(0), sizes.page_bytes(1)}};
  auto spill = SpillFile::open({folder.path, 40 * layout.max_record_bytes()}, layout);
  ASSERT_TRUE(spill);
  Coverage coverage;
  for (uint64_t seed = first; seed < first + scripts; ++seed) {
    SCOPED_TRACE("POLYMIND_KV_SEED=" + std::to_string(seed));
    Machine(seed, *spill.value(), coverage).run(100);
    if (HasFailure()) return;
  }
  std::printf(
      "copies %zu, adopted %zu, refused %zu, evicted %zu, spilled %zu, restored %zu, "
      "missed %zu\n",
      coverage.copies, coverage.adopted, coverage.refused, coverage.evicted, coverage.spilled,
      coverage.restored, coverage.missed);
  if (scripts < 500) return;
  // Nothing of this is rare.
  EXPECT_GT(coverage.copies, scripts / 4);
  EXPECT_GT(coverage.adopted, scripts / 4);
  EXPECT_GT(coverage.refused, scripts / 20);
  EXPECT_GT(coverage.evicted, scripts / 4);
  EXPECT_GT(coverage.spilled, scripts / 4);
  EXPECT_GT(coverage.restored, scripts / 20);
  EXPECT_GT(coverage.missed, 0u);
}

}  // namespace
}  // namespace pm
