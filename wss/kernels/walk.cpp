// Sparse LU of the random-walk systems on a pixel grid, by nested dissection and multifrontal elimination without pivoting.
//
// The meaning is defined by wss/ops/random_walk.py; this file is its fast twin on the CPU, reached through a plain C interface
// (ctypes). A line of pixels splits a rectangle in two parts that meet nowhere else, further lines split these, down to a few pixels.
// Each part has a front: a dense matrix over the pixels that go with it (those of its line, or all of a leaf) and over those around
// it. Children come first; what their elimination leaves is added into the parent's front in a few contiguous runs, because pixels
// around a rectangle are listed side by side. I - T is diagonally dominant by rows, which elimination preserves: no pivoting.
//
// Vectors are GCC's portable vector types, as in lattice.cpp.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using i32 = std::int32_t;
using i64 = std::int64_t;

// Labels side by side in substitution, and columns side by side in elimination; with AVX-512 twice as many columns.
typedef double vec __attribute__((vector_size(32), aligned(8), may_alias));
constexpr int lanes = 4;
#if defined(__AVX512F__)
typedef double wide __attribute__((vector_size(64), aligned(8), may_alias));
constexpr int wide_lanes = 8, tile_rows = 8, row_vectors = 2;
#else
#if defined(__AVX__)
typedef vec wide;
constexpr int wide_lanes = lanes, tile_rows = 6, row_vectors = 1;
#else
typedef double wide __attribute__((vector_size(16), aligned(8), may_alias));
constexpr int wide_lanes = 2, tile_rows = 4, row_vectors = 1;
#endif
#endif

inline vec load(const double* p) { return *reinterpret_cast<const vec*>(p); }
inline wide load_wide(const double* p) { return *reinterpret_cast<const wide*>(p); }
inline void store(double* p, vec v) { *reinterpret_cast<vec*>(p) = v; }
inline void store_wide(double* p, wide v) { *reinterpret_cast<wide*>(p) = v; }
inline vec broadcast(double x) { return vec{x, x, x, x}; }

constexpr int status_ok = 0, status_memory = 2;

constexpr int leaf_pixels = 6;
constexpr int block = 8;   // pivots eliminated from a row or column at once
constexpr int panel = 64;  // pivots whose effect on the rest of a front is applied at once
constexpr int block_vectors = block / wide_lanes;

// Factors and fronts are large and fresh: page faults would take a good part of the time.
void advise_huge_pages([[maybe_unused]] void* start, [[maybe_unused]] std::size_t bytes) {
#if defined(MADV_HUGEPAGE)
    constexpr std::uintptr_t page = std::uintptr_t(1) << 21;
    const std::uintptr_t first = (reinterpret_cast<std::uintptr_t>(start) + page - 1) / page * page;
    const std::uintptr_t last = (reinterpret_cast<std::uintptr_t>(start) + bytes) / page * page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

class Scratch {  // doubles, uninitialised
    double* data_;

  public:
    explicit Scratch(i64 n) : data_(static_cast<double*>(std::malloc(n * sizeof(double)))) {
        if (!data_) throw std::bad_alloc();
        advise_huge_pages(data_, n * sizeof(double));
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { std::free(data_); }
    double* data() { return data_; }
};

// ------------------------------------------------------------------------------------------------------------------- the plan

struct Run {
    i32 from, to, length;  // places in the child's border and in the parent's front
};

struct Entry {
    i64 step;  // index in T (4,H,W)
    i32 row, column;
};

struct Node {
    i32 own, border;      // numbers of pixels
    i64 pixels;           // first of own + border in Plan::pixels
    i64 factor;           // first double: own rows of own + border, then border rows of own
    i64 entries, entries_end;
    i32 children[2];      // -1 for leaves
    i64 runs[2], runs_end[2];
    i32 size() const { return own + border; }
};

struct Plan {
    i32 height, width;
    std::vector<Node> nodes;  // children before parents
    std::vector<i32> pixels;
    std::vector<Entry> entries;
    std::vector<Run> runs;
    i64 factor_size = 0, stack_size = 0;
    i32 largest = 0;

    Plan(i32 h, i32 w) : height(h), width(w), place(i64(h) * w, 0), stamp(i64(h) * w, -1) {
        split(0, h, 0, w, 0);
        place = {};
        stamp = {};
    }

  private:
    std::vector<i32> place, stamp;

    i32 split(i32 top, i32 bottom, i32 left, i32 right, i64 stacked) {
        const i32 h = bottom - top, w = right - left;
        Node node{};
        i32 own[4] = {top, bottom, left, right};
        node.children[0] = node.children[1] = -1;
        if (h * w > leaf_pixels) {
            i32 first[4] = {top, bottom, left, right}, second[4] = {top, bottom, left, right};
            const int axis = h >= w ? 0 : 2;
            const i32 middle = axis == 0 ? top + (h - 1) / 2 : left + (w - 1) / 2;
            first[axis + 1] = own[axis] = middle;
            second[axis] = own[axis + 1] = middle + 1;
            node.children[0] = split(first[0], first[1], first[2], first[3], stacked);
            const i64 left_behind = nodes[node.children[0]].border;
            node.children[1] = split(second[0], second[1], second[2], second[3], stacked + left_behind * left_behind);
        }
        node.pixels = i64(pixels.size());
        for (i32 y = own[0]; y < own[1]; ++y)
            for (i32 x = own[2]; x < own[3]; ++x) pixels.push_back(y * width + x);
        node.own = i32(i64(pixels.size()) - node.pixels);
        if (top > 0)
            for (i32 x = left; x < right; ++x) pixels.push_back((top - 1) * width + x);
        if (bottom < height)
            for (i32 x = left; x < right; ++x) pixels.push_back(bottom * width + x);
        if (left > 0)
            for (i32 y = top; y < bottom; ++y) pixels.push_back(y * width + left - 1);
        if (right < width)
            for (i32 y = top; y < bottom; ++y) pixels.push_back(y * width + right);
        node.border = i32(i64(pixels.size()) - node.pixels) - node.own;

        const i32 self = i32(nodes.size());
        const i32* list = &pixels[node.pixels];
        for (i32 i = 0; i < node.size(); ++i) {
            place[list[i]] = i;
            stamp[list[i]] = self;
        }
        link(node, self, list);
        for (int c = 0; c < 2; ++c) {
            node.runs[c] = i64(runs.size());
            if (node.children[c] >= 0) {
                const Node& child = nodes[node.children[c]];
                const i32* around = &pixels[child.pixels + child.own];
                for (i32 i = 0; i < child.border; ++i) {
                    const i32 at = place[around[i]];
                    if (i > 0 && runs.back().to + runs.back().length == at) ++runs.back().length;
                    else runs.push_back({i, at, 1});
                }
            }
            node.runs_end[c] = i64(runs.size());
        }
        node.factor = factor_size;
        factor_size += i64(node.own) * (node.size() + node.border);
        largest = std::max(largest, node.size());
        stack_size = std::max(stack_size, stacked + i64(node.border) * node.border);
        nodes.push_back(node);
        return self;
    }

    // The steps between own pixels and from or to the border: each step is an entry of the front where its first end goes.
    void link(Node& node, i32 self, const i32* list) {
        const i64 count = i64(height) * width;
        node.entries = i64(entries.size());
        for (i32 i = 0; i < node.own; ++i) {
            const i32 pixel = list[i], y = pixel / width, x = pixel % width;
            const i32 other[4] = {y > 0 ? pixel - width : -1, x > 0 ? pixel - 1 : -1, x + 1 < width ? pixel + 1 : -1,
                                  y + 1 < height ? pixel + width : -1};
            for (int d = 0; d < 4; ++d) {
                if (other[d] < 0 || stamp[other[d]] != self) continue;
                const i32 at = place[other[d]];
                entries.push_back({d * count + pixel, i, at});
                if (at >= node.own) entries.push_back({(3 - d) * count + other[d], at, i});
            }
        }
        node.entries_end = i64(entries.size());
    }
};

// ---------------------------------------------------------------------------------------------------------- dense elimination

// c -= a b for R rows of c and V vectors of columns; depth columns of a.
template <int R, int V>
inline void tile(double* c, const double* a, const double* b, i64 ld, int depth) {
    wide sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = load_wide(c + r * ld + v * wide_lanes);
    for (int k = 0; k < depth; ++k) {
        wide row[V];
        for (int v = 0; v < V; ++v) row[v] = load_wide(b + k * ld + v * wide_lanes);
        for (int r = 0; r < R; ++r) {
            const double scale = a[r * ld + k];
            for (int v = 0; v < V; ++v) sum[r][v] -= scale * row[v];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store_wide(c + r * ld + v * wide_lanes, sum[r][v]);
}

template <int R, int V>
inline void last_tile(int rows, double* c, const double* a, const double* b, i64 ld, int depth) {
    if constexpr (R > 0) {
        if (rows == R) tile<R, V>(c, a, b, ld, depth);
        else last_tile<R - 1, V>(rows, c, a, b, ld, depth);
    }
}

// All rows of V vectors of columns.
template <int V>
inline void tiles(i32 rows, double* c, const double* a, const double* b, i64 ld, int depth) {
    for (; rows >= tile_rows; rows -= tile_rows, c += tile_rows * ld, a += tile_rows * ld)
        tile<tile_rows, V>(c, a, b, ld, depth);
    last_tile<tile_rows - 1, V>(rows, c, a, b, ld, depth);
}

// The N pivots at hand: their unit lower factor and the inverse of their upper one.
struct Pivots {
    double lower[block][block];
    wide inverse[block][block_vectors];
};

// Eliminate N pivots within their N rows and columns.
template <int N>
inline void eliminate_pivots(double* f, i64 ld, Pivots& pivots) {
    alignas(64) double upper[N][block];
    double reciprocal[N];
    for (int i = 0; i < N; ++i)
        for (int v = 0; v < block_vectors; ++v)
            store_wide(upper[i] + v * wide_lanes, load_wide(f + i * ld + v * wide_lanes));
    for (int k = 0; k < N; ++k) {
        reciprocal[k] = 1 / upper[k][k];
        for (int i = k + 1; i < N; ++i) {  // whole rows: what is left of the diagonal of upper is not used
            const double scale = pivots.lower[i][k] = upper[i][k] * reciprocal[k];
            for (int v = 0; v < block_vectors; ++v) {
                double* row = upper[i] + v * wide_lanes;
                store_wide(row, load_wide(row) - scale * load_wide(upper[k] + v * wide_lanes));
            }
        }
    }
    for (int k = N; k-- > 0;) {
        alignas(64) double unit[block] = {};
        unit[k] = 1;
        for (int v = 0; v < block_vectors; ++v) {
            wide sum = load_wide(unit + v * wide_lanes);
            for (int i = k + 1; i < N; ++i) sum -= upper[k][i] * pivots.inverse[i][v];
            pivots.inverse[k][v] = sum * reciprocal[k];
        }
    }
    for (int i = 0; i < N; ++i) {
        for (int k = 0; k < i; ++k) f[i * ld + k] = pivots.lower[i][k];
        f[i * ld + i] = reciprocal[i];
        for (int k = i + 1; k < N; ++k) f[i * ld + k] = upper[i][k];
    }
}

// Eliminate N pivots: their rows and columns to the end. Pivots from start on were eliminated but not yet applied here.
// N < block only where there are none of these.
template <int N>
void eliminate_block(double* f, i64 ld, i32 start, i32 begin, i32 size) {
    const i32 depth = begin - start, end = begin + N;
    Pivots pivots;
    double* diagonal = f + begin * ld + begin;
    if constexpr (N == block)
        if (depth > 0) tiles<block_vectors>(size - begin, diagonal, f + begin * ld + start, f + start * ld + begin, ld, depth);
    eliminate_pivots<N>(diagonal, ld, pivots);
    for (i32 j = end; j < size; j += row_vectors * wide_lanes) {
        wide sum[N][row_vectors];
        for (int r = 0; r < N; ++r)
            for (int v = 0; v < row_vectors; ++v) sum[r][v] = load_wide(f + (begin + r) * ld + j + v * wide_lanes);
        for (i32 k = start; k < begin; ++k) {
            wide row[row_vectors];
            for (int v = 0; v < row_vectors; ++v) row[v] = load_wide(f + k * ld + j + v * wide_lanes);
            for (int r = 0; r < N; ++r) {
                const double scale = f[(begin + r) * ld + k];
                for (int v = 0; v < row_vectors; ++v) sum[r][v] -= scale * row[v];
            }
        }
        for (int k = 0; k < N; ++k)
            for (int r = k + 1; r < N; ++r)
                for (int v = 0; v < row_vectors; ++v) sum[r][v] -= pivots.lower[r][k] * sum[k][v];
        for (int r = 0; r < N; ++r)
            for (int v = 0; v < row_vectors; ++v) store_wide(f + (begin + r) * ld + j + v * wide_lanes, sum[r][v]);
    }
    for (i32 i = end; i < size; ++i) {
        double* row = f + i * ld + begin;
        wide sum[block_vectors];
        for (int v = 0; v < block_vectors; ++v) {
            sum[v] = row[0] * pivots.inverse[0][v];
            for (int k = 1; k < N; ++k) sum[v] += row[k] * pivots.inverse[k][v];
        }
        if constexpr (N == block)
            for (int v = 0; v < block_vectors; ++v) store_wide(row + v * wide_lanes, sum[v]);
        else
            std::memcpy(row, sum, N * sizeof(double));
    }
}

template <int N>
inline void eliminate_first(int count, double* f, i64 ld, i32 begin, i32 size) {
    if constexpr (N > 0) {
        if (count == N) eliminate_block<N>(f, ld, begin, begin, size);
        else eliminate_first<N - 1>(count, f, ld, begin, size);
    }
}

// Eliminate the first own pixels. Unit lower factor below the diagonal, upper above; the diagonal holds reciprocals of pivots.
// Columns beyond size are zero. What is no whole panel or block comes first.
void eliminate(double* f, i64 ld, i32 own, i32 size) {
    for (i32 start = 0, end; start < own; start = end) {
        end = start + (own - start - 1) % panel + 1;
        i32 begin = start + (end - start - 1) % block + 1;
        eliminate_first<block>(begin - start, f, ld, start, size);
        for (; begin < end; begin += block) eliminate_block<block>(f, ld, start, begin, size);
        for (i32 j = end; j < size; j += 2 * wide_lanes)
            tiles<2>(size - end, f + end * ld + j, f + end * ld + start, f + start * ld + j, ld, end - start);
    }
}

inline void add(double* y, const double* x, i32 count) {
    i32 j = 0;
    for (; j + wide_lanes <= count; j += wide_lanes) store_wide(y + j, load_wide(y + j) + load_wide(x + j));
    for (; j < count; ++j) y[j] += x[j];
}

void factor(const Plan& plan, const double* steps, double* factors, Scratch& front, Scratch& stack) {
    double* top = stack.data();
    for (const Node& node : plan.nodes) {
        const i32 own = node.own, size = node.size(), border = node.border;
        const i64 ld = size + 2 * wide_lanes;
        double* f = front.data();
        std::fill(f, f + size * ld + 2 * wide_lanes, 0.0);
        for (i32 i = 0; i < own; ++i) f[i * ld + i] = 1;
        for (i64 e = node.entries; e < node.entries_end; ++e) {
            const Entry& entry = plan.entries[e];
            f[entry.row * ld + entry.column] = -steps[entry.step];
        }
        for (int c = 1; c >= 0; --c) {
            if (node.children[c] < 0) continue;
            const i64 width = plan.nodes[node.children[c]].border;
            top -= width * width;
            for (i64 p = node.runs[c]; p < node.runs_end[c]; ++p) {
                const Run rows = plan.runs[p];
                for (i32 r = 0; r < rows.length; ++r) {
                    double* target = f + (rows.to + r) * ld;
                    const double* source = top + (rows.from + r) * width;
                    for (i64 q = node.runs[c]; q < node.runs_end[c]; ++q) {
                        const Run columns = plan.runs[q];
                        add(target + columns.to, source + columns.from, columns.length);
                    }
                }
            }
        }
        eliminate(f, ld, own, size);
        double* kept = factors + node.factor;
        for (i32 i = 0; i < own; ++i, kept += size) std::memcpy(kept, f + i * ld, size * sizeof(double));
        for (i32 i = own; i < size; ++i, kept += own) std::memcpy(kept, f + i * ld, own * sizeof(double));
        for (i32 i = own; i < size; ++i, top += border) std::memcpy(top, f + i * ld + own, border * sizeof(double));
    }
}

// --------------------------------------------------------------------------------------------------------------- substitution

// Four right-hand sides at a time, side by side at each pixel. y and local hold vec per pixel.
void substitute(const Plan& plan, const double* factors, vec* y, vec* local) {
    for (const Node& node : plan.nodes) {
        const i32 own = node.own, size = node.size();
        const i32* pixels = &plan.pixels[node.pixels];
        const double* upper = factors + node.factor;
        const double* lower = upper + i64(own) * size;
        for (i32 i = 0; i < own; ++i) {
            vec sum = y[pixels[i]];
            for (i32 k = 0; k < i; ++k) sum -= broadcast(upper[i64(i) * size + k]) * local[k];
            y[pixels[i]] = local[i] = sum;
        }
        for (i32 i = own; i < size; ++i) {
            vec sum = y[pixels[i]];
            const double* row = lower + i64(i - own) * own;
            for (i32 k = 0; k < own; ++k) sum -= broadcast(row[k]) * local[k];
            y[pixels[i]] = sum;
        }
    }
    for (auto node = plan.nodes.rbegin(); node != plan.nodes.rend(); ++node) {
        const i32 own = node->own, size = node->size();
        const i32* pixels = &plan.pixels[node->pixels];
        const double* upper = factors + node->factor;
        for (i32 i = own; i < size; ++i) local[i] = y[pixels[i]];
        for (i32 i = own; i-- > 0;) {
            vec sum = y[pixels[i]];
            const double* row = upper + i64(i) * size;
            for (i32 k = i + 1; k < size; ++k) sum -= broadcast(row[k]) * local[k];
            y[pixels[i]] = local[i] = sum * broadcast(row[i]);
        }
    }
}

// The same with the transposes of both factors.
void substitute_transposed(const Plan& plan, const double* factors, vec* y, vec* local) {
    for (const Node& node : plan.nodes) {
        const i32 own = node.own, size = node.size();
        const i32* pixels = &plan.pixels[node.pixels];
        const double* upper = factors + node.factor;
        for (i32 i = 0; i < size; ++i) local[i] = y[pixels[i]];
        for (i32 i = 0; i < own; ++i) {
            const double* row = upper + i64(i) * size;
            const vec value = local[i] *= broadcast(row[i]);
            for (i32 k = i + 1; k < size; ++k) local[k] -= broadcast(row[k]) * value;
        }
        for (i32 i = 0; i < size; ++i) y[pixels[i]] = local[i];
    }
    for (auto node = plan.nodes.rbegin(); node != plan.nodes.rend(); ++node) {
        const i32 own = node->own, size = node->size();
        const i32* pixels = &plan.pixels[node->pixels];
        const double* upper = factors + node->factor;
        const double* lower = upper + i64(own) * size;
        for (i32 i = 0; i < own; ++i) local[i] = y[pixels[i]];
        for (i32 i = own; i < size; ++i) {
            const vec value = y[pixels[i]];
            const double* row = lower + i64(i - own) * own;
            for (i32 k = 0; k < own; ++k) local[k] -= broadcast(row[k]) * value;
        }
        for (i32 i = own; i-- > 0;) {
            const vec value = local[i];
            const double* row = upper + i64(i) * size;
            for (i32 k = 0; k < i; ++k) local[k] -= broadcast(row[k]) * value;
            y[pixels[i]] = value;
        }
    }
}

}  // namespace

// ------------------------------------------------------------------------------------------------------------------ interface

EXPORT void* wss_walk_plan(i32 height, i32 width) {
    try {
        return new Plan(height, width);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

EXPORT void wss_walk_free(void* plan) { delete static_cast<Plan*>(plan); }

// Doubles of one image's factors.
EXPORT i64 wss_walk_size(const void* plan) { return static_cast<const Plan*>(plan)->factor_size; }

// steps (batch,4,H,W) to factors (batch,size).
EXPORT int wss_walk_factor(const void* handle, const double* steps, double* factors, i64 batch, int threads) {
    const Plan& plan = *static_cast<const Plan*>(handle);
    const i64 count = i64(plan.height) * plan.width;
    int status = status_ok;
    advise_huge_pages(factors, sizeof(double) * plan.factor_size * batch);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (i64 b = 0; b < batch; ++b) {
        try {
            Scratch front(i64(plan.largest) * (plan.largest + 2 * wide_lanes) + 2 * wide_lanes);
            Scratch stack(std::max<i64>(plan.stack_size, 1));
            factor(plan, steps + 4 * count * b, factors + plan.factor_size * b, front, stack);
        } catch (const std::bad_alloc&) {
#pragma omp critical
            status = status_memory;
        }
    }
    return status;
}

// rhs and result (batch,labels,H,W).
EXPORT int wss_walk_solve(const void* handle, const double* factors, const double* rhs, double* result, i64 batch, i64 labels,
                          int transposed, int threads) {
    const Plan& plan = *static_cast<const Plan*>(handle);
    const i64 count = i64(plan.height) * plan.width;
    int status = status_ok;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (i64 b = 0; b < batch; ++b) {
        try {
            std::vector<double> spread(lanes * count), near(lanes * i64(plan.largest));
            vec* y = reinterpret_cast<vec*>(spread.data());
            vec* local = reinterpret_cast<vec*>(near.data());
            for (i64 first = 0; first < labels; first += lanes) {
                const i64 used = std::min<i64>(lanes, labels - first);
                const double* source = rhs + (b * labels + first) * count;
                for (i64 p = 0; p < count; ++p) {
                    vec value = broadcast(0);
                    for (i64 l = 0; l < used; ++l) value[l] = source[l * count + p];
                    y[p] = value;
                }
                const double* own = factors + plan.factor_size * b;
                if (transposed) substitute_transposed(plan, own, y, local);
                else substitute(plan, own, y, local);
                double* target = result + (b * labels + first) * count;
                for (i64 l = 0; l < used; ++l)
                    for (i64 p = 0; p < count; ++p) target[l * count + p] = y[p][l];
            }
        } catch (const std::bad_alloc&) {
#pragma omp critical
            status = status_memory;
        }
    }
    return status;
}
