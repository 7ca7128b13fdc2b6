// SPDX-License-Identifier: Apache-2.0
// H0 and H1 of a Vietoris–Rips filtration, edge by edge, coefficients in Z/2.
//
// Adding edge e = uv of length r to the complex X of all shorter edges glues in e * L, where the
// lune L is the flag complex of the vertices nearer than r to both ends; e * L meets X in the
// suspension of L:
// - L empty: e joins two components (H0 dies) or closes a loop (H1 is born)
// - L connected: nothing happens; e is homologous to the path u w v through any w of L
// - L has c > 1 components: c − 1 loops u w v w' are filled, so up to c − 1 classes die
// A loop is a vector over the classes born so far; a relation kills the youngest class it has left
// after the earlier relations. Nearly every edge is settled by a few words of bits.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

#include "api.h"
#include "geometry.h"

namespace {

using Word = uint64_t;

struct Edge {
  Word key;  // bits of the length: order of non-negative doubles
  uint32_t u, v;
};

// Ascending by key; equal keys keep their order.
void sort_edges(std::vector<Edge>& edges) {
  std::vector<Edge> other(edges.size());
  Word any = 0, all = ~Word{0};
  for (const Edge& e : edges) any |= e.key, all &= e.key;
  const Word varying = any & ~all;
  constexpr int kBits = 11;
  for (int shift = 0; shift < 64; shift += kBits) {
    if (!((varying >> shift) & ((1u << kBits) - 1))) continue;
    std::size_t count[(1u << kBits) + 1] = {};
    for (const Edge& e : edges) ++count[((e.key >> shift) & ((1u << kBits) - 1)) + 1];
    for (std::size_t i = 1; i <= (1u << kBits); ++i) count[i] += count[i - 1];
    for (const Edge& e : edges) other[count[(e.key >> shift) & ((1u << kBits) - 1)]++] = e;
    edges.swap(other);
  }
}

struct Relation {
  uint32_t edge, w, other;  // the loop u w v w' is filled when `edge` = uv enters
};

struct Sweep {
  int n, words;
  std::vector<Edge> edges;
  std::vector<int32_t> rank;     // [n, n] place in `edges`
  std::vector<int32_t> witness;  // per edge: w of the lune, −1 tree, −2 − g birth of class g
  std::vector<uint32_t> tree, births;
  std::vector<Relation> relations;
};

template <int W>
void sweep(Sweep& s) {
  const int words = W ? W : s.words;
  std::vector<Word> adjacency(static_cast<std::size_t>(s.n) * words);
  std::vector<int32_t> root(s.n);
  std::iota(root.begin(), root.end(), 0);
  const auto find = [&](int32_t i) {
    while (root[i] != i) i = root[i] = root[root[i]];
    return i;
  };
  std::vector<Word> lune(words), todo(words), left(words);
  for (uint32_t e = 0; e < s.edges.size(); ++e) {
    const uint32_t u = s.edges[e].u, v = s.edges[e].v;
    Word* const a = &adjacency[static_cast<std::size_t>(u) * words];
    Word* const b = &adjacency[static_cast<std::size_t>(v) * words];
    Word some = 0;
    for (int i = 0; i < words; ++i) some |= left[i] = a[i] & b[i];
    if (!some) {
      const int32_t x = find(u), y = find(v);
      if (x != y) {
        root[x] = y;
        s.witness[e] = -1;
        s.tree.push_back(e);
      } else {
        s.witness[e] = -2 - static_cast<int32_t>(s.births.size());
        s.births.push_back(e);
      }
    } else {
      // components of the lune; left: not reached yet, todo: reached, neighbours not yet taken
      int32_t first = -1;
      while (true) {
        int i = 0;
        while (i < words && !left[i]) ++i;
        if (i == words) break;
        const uint32_t w = 64 * i + __builtin_ctzll(left[i]);
        if (first < 0) s.witness[e] = first = w;
        else s.relations.push_back({e, static_cast<uint32_t>(first), w});
        left[i] &= left[i] - 1;
        uint32_t x = w;
        for (int k = 0; k < words; ++k) todo[k] = 0;
        while (true) {
          const Word* const c = &adjacency[static_cast<std::size_t>(x) * words];
          Word rest = 0;
          for (int k = 0; k < words; ++k) {
            const Word reached = left[k] & c[k];
            todo[k] |= reached;
            rest |= left[k] &= ~reached;
          }
          if (!rest) break;
          int k = 0;
          while (k < words && !todo[k]) ++k;
          if (k == words) break;
          x = 64 * k + __builtin_ctzll(todo[k]);
          todo[k] &= todo[k] - 1;
        }
      }
    }
    a[v / 64] |= Word{1} << (v % 64);
    b[u / 64] |= Word{1} << (u % 64);
  }
}

// The class of every edge as a vector over the births, made when it is asked for.
class Classes {
 public:
  explicit Classes(const Sweep& s)
      : s_(s), size_((s.births.size() + 63) / 64), known_(s.edges.size()) {}
  std::size_t size() const { return size_; }

  void add(uint32_t u, uint32_t v, Word* to) {
    const Word* from = of(s_.rank[static_cast<std::size_t>(u) * s_.n + v]);
    for (std::size_t i = 0; from && i < size_; ++i) to[i] ^= from[i];
  }

 private:
  const Word* of(int32_t e) {
    // an explicit stack: chains of witnesses may be long
    std::vector<int32_t>& stack = stack_;
    stack.assign(1, e);
    while (!stack.empty()) {
      const int32_t top = stack.back();
      if (done(top)) {
        stack.pop_back();
        continue;
      }
      if (s_.witness[top] < 0) {
        const int g = -2 - s_.witness[top];
        known_[top] = fresh();
        known_[top][g / 64] |= Word{1} << (g % 64);
        stack.pop_back();
        continue;
      }
      const auto w = static_cast<std::size_t>(s_.witness[top]) * static_cast<std::size_t>(s_.n);
      const int32_t p = s_.rank[w + s_.edges[top].u], q = s_.rank[w + s_.edges[top].v];
      if (!done(p) || !done(q)) {
        stack.push_back(done(p) ? q : p);
        continue;
      }
      Word* const mine = fresh();
      for (const int32_t part : {p, q})
        for (std::size_t i = 0; known_[part] && i < size_; ++i) mine[i] ^= known_[part][i];
      known_[top] = mine;
      stack.pop_back();
    }
    return known_[e];
  }

  bool done(int32_t e) const { return known_[e] || s_.witness[e] == -1; }

  Word* fresh() {
    constexpr std::size_t kMany = 1024;
    if (used_ == kMany || blocks_.empty()) {
      blocks_.emplace_back(new Word[kMany * size_]());
      used_ = 0;
    }
    return blocks_.back().get() + size_ * used_++;
  }

  const Sweep& s_;
  std::size_t size_, used_ = 0;
  std::vector<Word*> known_;
  std::vector<std::unique_ptr<Word[]>> blocks_;
  std::vector<int32_t> stack_;
};

struct Pairing {
  std::vector<int64_t> death;  // per birth the edge that kills it, -1 where it lives on
};

// Relations in the order of the filtration; each kills the youngest class it has left.
Pairing pair(const Sweep& s) {
  Classes classes(s);
  const std::size_t size = classes.size();
  Pairing result{std::vector<int64_t>(s.births.size(), -1)};
  std::vector<std::vector<Word>> killer(s.births.size());  // by youngest class
  std::vector<Word> loop(size);
  std::size_t alive = s.births.size();
  const auto reduce = [&](uint32_t edge) {
    for (std::size_t i = size; i-- > 0;) {
      while (loop[i]) {
        const auto bit = 63 - static_cast<std::size_t>(__builtin_clzll(loop[i]));
        const std::size_t youngest = 64 * i + bit;
        if (result.death[youngest] < 0) {
          result.death[youngest] = edge;
          killer[youngest].assign(loop.begin(), loop.begin() + static_cast<int64_t>(i) + 1);
          --alive;
          return;
        }
        for (std::size_t k = 0; k <= i; ++k) loop[k] ^= killer[youngest][k];
      }
    }
  };
  for (const Relation& r : s.relations) {
    if (!alive) break;
    std::fill(loop.begin(), loop.end(), 0);
    for (const uint32_t end : {s.edges[r.edge].u, s.edges[r.edge].v})
      for (const uint32_t w : {r.w, r.other}) classes.add(end, w, loop.data());
    reduce(r.edge);
  }
  return result;
}

Sweep filtration(const double* distances, int32_t n, double end) {
  Sweep s;
  s.n = n;
  s.words = (n + 63) / 64;
  for (int32_t u = 1; u < n; ++u)
    for (int32_t v = 0; v < u; ++v) {
      const double d = distances[static_cast<std::size_t>(u) * n + v] + 0.0;  // no -0
      if (!(d <= end)) continue;
      Edge e{0, static_cast<uint32_t>(u), static_cast<uint32_t>(v)};
      std::memcpy(&e.key, &d, sizeof d);
      s.edges.push_back(e);
    }
  sort_edges(s.edges);
  s.rank.assign(static_cast<std::size_t>(n) * n, -1);
  for (std::size_t i = 0; i < s.edges.size(); ++i) {
    const Edge& e = s.edges[i];
    s.rank[static_cast<std::size_t>(e.u) * n + e.v] = static_cast<int32_t>(i);
    s.rank[static_cast<std::size_t>(e.v) * n + e.u] = static_cast<int32_t>(i);
  }
  s.witness.assign(s.edges.size(), -1);
  switch (s.words) {
    case 1: sweep<1>(s); break;
    case 2: sweep<2>(s); break;
    case 4: sweep<4>(s); break;
    case 16: sweep<16>(s); break;
    default: sweep<0>(s);
  }
  return s;
}

}  // namespace

// distances [n][n], the lower triangle counts; edges up to `end` enter. n at most 4096.
// tree [n - 1][2]: rows of the edges that join components; joined: how many.
// loops [n (n - 1) / 2][4]: rows of the edges of birth and death, -1 for a death that does not
// come; born: how many. Bars of length 0 are left out.
PD_API int32_t pd_training_rips(const double* distances, int32_t n, double end, int32_t* tree,
                                int32_t* joined, int32_t* loops, int32_t* born) {
  if (!distances || !tree || !joined || !loops || !born || n < 1 || n > 4096)
    return pd::BAD_ARGUMENT;
  try {
    const Sweep s = filtration(distances, n, end);
    const Pairing pairs = pair(s);
    *joined = static_cast<int32_t>(s.tree.size());
    for (std::size_t i = 0; i < s.tree.size(); ++i) {
      tree[2 * i] = static_cast<int32_t>(s.edges[s.tree[i]].u);
      tree[2 * i + 1] = static_cast<int32_t>(s.edges[s.tree[i]].v);
    }
    *born = 0;
    for (std::size_t g = 0; g < s.births.size(); ++g) {
      const Edge& birth = s.edges[s.births[g]];
      const int64_t at = pairs.death[g];
      if (at >= 0 && s.edges[static_cast<std::size_t>(at)].key == birth.key) continue;
      int32_t* const row = loops + 4 * static_cast<std::size_t>((*born)++);
      row[0] = static_cast<int32_t>(birth.u);
      row[1] = static_cast<int32_t>(birth.v);
      row[2] = at < 0 ? -1 : static_cast<int32_t>(s.edges[static_cast<std::size_t>(at)].u);
      row[3] = at < 0 ? -1 : static_cast<int32_t>(s.edges[static_cast<std::size_t>(at)].v);
    }
    return pd::OK;
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
}
