// 2^x for |x| <= 1/2: minimax polynomial of degree 6, relative error 1.6e-8 before rounding; 1 at
// 0.
#pragma once

namespace pm {
namespace {

template <class Isa>
typename Isa::V exp2_polynomial(typename Isa::V x) {
  auto p = Isa::set1(0x1.41d334p-13f);
  p = Isa::fma(p, x, Isa::set1(0x1.5f456ap-10f));
  p = Isa::fma(p, x, Isa::set1(0x1.3b2dbcp-7f));
  p = Isa::fma(p, x, Isa::set1(0x1.c6aed4p-5f));
  p = Isa::fma(p, x, Isa::set1(0x1.ebfbdap-3f));
  p = Isa::fma(p, x, Isa::set1(0x1.62e43p-1f));
  return Isa::fma(p, x, Isa::set1(1));
}

}  // namespace
}  // namespace pm
