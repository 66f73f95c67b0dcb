// Sparse LU of the random-walk systems on a pixel grid, by nested dissection and multifrontal elimination without pivoting.
//
// The meaning is defined by wss/ops/hitting.py; this file is its fast twin on the CPU, reached through a plain C interface
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
constexpr int wide_lanes = 8, tile_rows = 8;
#else
#if defined(__AVX__)
typedef vec wide;
constexpr int wide_lanes = lanes, tile_rows = 6;
#else
typedef double wide __attribute__((vector_size(16), aligned(8), may_alias));
constexpr int wide_lanes = 2, tile_rows = 4;
#endif
#endif

inline vec load(const double* p) { return *reinterpret_cast<const vec*>(p); }
inline wide load_wide(const double* p) { return *reinterpret_cast<const wide*>(p); }
inline void store(double* p, vec v) { *reinterpret_cast<vec*>(p) = v; }
inline void store_wide(double* p, wide v) { *reinterpret_cast<wide*>(p) = v; }
inline vec broadcast(double x) { return vec{x, x, x, x}; }

constexpr int leaf_pixels = 6;
constexpr int block = 8;   // pivots eliminated from a row or column at once
constexpr int panel = 64;  // pivots whose effect on the rest of a front is applied at once
constexpr int block_vectors = block / wide_lanes;

// Numbers in whole blocks.
inline i64 whole(i64 count) { return (count + block - 1) / block * block; }

// Factors and fronts are large and fresh: page faults would take a good part of the time.
void advise_huge_pages([[maybe_unused]] void* start, [[maybe_unused]] std::size_t bytes) {
#if defined(MADV_HUGEPAGE)
    constexpr std::uintptr_t page = std::uintptr_t(1) << 21;
    const std::uintptr_t first = (reinterpret_cast<std::uintptr_t>(start) + page - 1) / page * page;
    const std::uintptr_t last = (reinterpret_cast<std::uintptr_t>(start) + bytes) / page * page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// ------------------------------------------------------------------------------------------------------------------- the plan

// A matrix in memory: its first number and the distance of its rows.
struct Matrix {
    double* data;
    i64 stride;
    double* at(i64 row, i64 column) const { return data + row * stride + column; }
};

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
    i64 factor;           // first double: own rows of own + border, padded, then border rows of own
    i64 entries, entries_end;
    i32 children[2];      // -1 for leaves
    i64 runs[2], runs_end[2];
    i32 depth;
    i32 size() const { return own + border; }
    i64 stride() const { return whole(own) + whole(border); }
    i64 factor_size() const { return own * stride() + whole(i64(own) * border); }
    i64 rest_size() const { return border * whole(border); }
    Matrix upper(double* factors) const { return {factors + factor + whole(own) - own, stride()}; }
    Matrix lower(double* factors) const { return {factors + factor + own * stride(), own}; }
};

struct Plan {
    i32 height, width;
    std::vector<Node> nodes;  // children before parents
    std::vector<i32> pixels;
    std::vector<Entry> entries;
    std::vector<Run> runs;
    i64 factor_size = 0, stack_sizes[2] = {0, 0};
    i32 largest = 0;

    // Doubles of one image: its factors, and scratch for stacks or for right-hand sides.
    i64 size() const {
        const i64 sides = lanes * (i64(height) * width + largest);
        return factor_size + whole(std::max(sides, stack_sizes[0] + stack_sizes[1]));
    }

    Plan(i32 h, i32 w) : height(h), width(w), place(i64(h) * w, 0), stamp(i64(h) * w, -1) {
        split(0, h, 0, w, 0);
        measure_stacks();
        place = {};
        stamp = {};
    }

  private:
    std::vector<i32> place, stamp;

    i32 split(i32 top, i32 bottom, i32 left, i32 right, i32 depth) {
        const i32 h = bottom - top, w = right - left;
        Node node{};
        node.depth = depth;
        i32 own[4] = {top, bottom, left, right};
        node.children[0] = node.children[1] = -1;
        if (h * w > leaf_pixels) {
            i32 first[4] = {top, bottom, left, right}, second[4] = {top, bottom, left, right};
            const int axis = h >= w ? 0 : 2;
            const i32 middle = axis == 0 ? top + (h - 1) / 2 : left + (w - 1) / 2;
            first[axis + 1] = own[axis] = middle;
            second[axis] = own[axis + 1] = middle + 1;
            node.children[0] = split(first[0], first[1], first[2], first[3], depth + 1);
            node.children[1] = split(second[0], second[1], second[2], second[3], depth + 1);
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
                    if (i > 0 && at != node.own && runs.back().to + runs.back().length == at) ++runs.back().length;
                    else runs.push_back({i, at, 1});
                }
            }
            node.runs_end[c] = i64(runs.size());
        }
        node.factor = factor_size;
        factor_size += node.factor_size();
        largest = std::max(largest, node.size());
        nodes.push_back(node);
        return self;
    }

    void measure_stacks() {
        i64 used[2] = {0, 0};
        for (const Node& node : nodes) {
            const int parity = node.depth % 2;
            used[parity] += node.rest_size();
            stack_sizes[parity] = std::max(stack_sizes[parity], used[parity]);
            for (const i32 child : node.children)
                if (child >= 0) used[1 - parity] -= nodes[child].rest_size();
        }
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
inline void tile(double* c, i64 c_stride, const double* a, i64 a_stride, const double* b, i64 b_stride, int depth) {
    wide sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = load_wide(c + r * c_stride + v * wide_lanes);
    for (int k = 0; k < depth; ++k) {
        wide row[V];
        for (int v = 0; v < V; ++v) row[v] = load_wide(b + k * b_stride + v * wide_lanes);
        for (int r = 0; r < R; ++r) {
            const double scale = a[r * a_stride + k];
            for (int v = 0; v < V; ++v) sum[r][v] -= scale * row[v];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store_wide(c + r * c_stride + v * wide_lanes, sum[r][v]);
}

template <int R, int V>
inline void last_tile(int rows, double* c, i64 c_stride, const double* a, i64 a_stride, const double* b, i64 b_stride,
                      int depth) {
    if constexpr (R > 0) {
        if (rows == R) tile<R, V>(c, c_stride, a, a_stride, b, b_stride, depth);
        else last_tile<R - 1, V>(rows, c, c_stride, a, a_stride, b, b_stride, depth);
    }
}

// The same for any number of rows.
template <int V>
inline void strip(i32 rows, double* c, i64 c_stride, const double* a, i64 a_stride, const double* b, i64 b_stride,
                  int depth) {
    for (; rows >= tile_rows; rows -= tile_rows, c += tile_rows * c_stride, a += tile_rows * a_stride)
        tile<tile_rows, V>(c, c_stride, a, a_stride, b, b_stride, depth);
    last_tile<tile_rows - 1, V>(rows, c, c_stride, a, a_stride, b, b_stride, depth);
}

// The same for any number of columns, rounded up to whole vectors.
inline void update(i32 rows, i32 columns, Matrix c, Matrix a, Matrix b, int depth) {
    i32 j = 0;
    for (; j + wide_lanes < columns; j += 2 * wide_lanes)
        strip<2>(rows, c.data + j, c.stride, a.data, a.stride, b.data + j, b.stride, depth);
    if (j < columns) strip<1>(rows, c.data + j, c.stride, a.data, a.stride, b.data + j, b.stride, depth);
}

// One node's matrix: rows of own pixels; columns of own pixels in the rows of the border; the border's rows and columns. Rows of
// the first and the last are padded with zeros to whole vectors of block columns, counted from the first border pixel.
struct Front {
    i32 own, border;
    Matrix upper, lower, rest;

    // From an entry on, to the end of the part that it lies in.
    Matrix from(i32 row, i32 column) const {
        if (row < own) return {upper.at(row, column), upper.stride};
        if (column < own) return {lower.at(row - own, column), lower.stride};
        return {rest.at(row - own, column - own), rest.stride};
    }
};

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

// columns N = a block of them: c times the inverse of the pivots' upper factor.
template <int N>
inline void divide(i32 rows, double* c, i64 stride, const Pivots& pivots) {
    for (; rows > 0; --rows, c += stride) {
        wide sum[block_vectors];
        for (int v = 0; v < block_vectors; ++v) {
            sum[v] = c[0] * pivots.inverse[0][v];
            for (int k = 1; k < N; ++k) sum[v] += c[k] * pivots.inverse[k][v];
        }
        if constexpr (N == block)
            for (int v = 0; v < block_vectors; ++v) store_wide(c + v * wide_lanes, sum[v]);
        else
            std::memcpy(c, sum, N * sizeof(double));
    }
}

// Eliminate N pivots: their rows and columns to the end. Pivots from start on were eliminated but not yet applied here.
// N < block only where there are none of these.
template <int N>
void eliminate_block(const Front& front, i32 start, i32 begin) {
    const i32 depth = begin - start, end = begin + N, size = front.own + front.border;
    const Matrix& upper = front.upper;
    const i64 stride = upper.stride, lower_stride = front.lower.stride;
    double* diagonal = upper.at(begin, begin);
    double* lower = front.lower.data + begin;
    Pivots pivots;
    if constexpr (N == block) {
        if (depth > 0) {
            const double* b = upper.at(start, begin);
            strip<block_vectors>(front.own - begin, diagonal, stride, upper.at(begin, start), stride, b, stride, depth);
            strip<block_vectors>(front.border, lower, lower_stride, lower - depth, lower_stride, b, stride, depth);
        }
    }
    eliminate_pivots<N>(diagonal, stride, pivots);
    for (i32 j = end; j < size; j += wide_lanes) {
        wide sum[N];
        for (int r = 0; r < N; ++r) sum[r] = load_wide(upper.at(begin + r, j));
        for (i32 k = start; k < begin; ++k) {
            const wide row = load_wide(upper.at(k, j));
            for (int r = 0; r < N; ++r) sum[r] -= *upper.at(begin + r, k) * row;
        }
        for (int k = 0; k < N; ++k)
            for (int r = k + 1; r < N; ++r) sum[r] -= pivots.lower[r][k] * sum[k];
        for (int r = 0; r < N; ++r) store_wide(upper.at(begin + r, j), sum[r]);
    }
    divide<N>(front.own - end, upper.at(end, begin), stride, pivots);
    divide<N>(front.border, lower, lower_stride, pivots);
}

template <int N>
inline void eliminate_first(int count, const Front& front, i32 begin) {
    if constexpr (N > 0) {
        if (count == N) eliminate_block<N>(front, begin, begin);
        else eliminate_first<N - 1>(count, front, begin);
    }
}

// Eliminate the own pixels. Unit lower factor below the diagonal, upper above; the diagonal holds reciprocals of pivots. What is
// no whole panel or block comes first, so that whole vectors end with the own pixels.
void eliminate(const Front& front) {
    const i32 own = front.own, border = front.border;
    const Matrix &upper = front.upper, &lower = front.lower;
    for (i32 start = 0, end; start < own; start = end) {
        end = start + (own - start - 1) % panel + 1;
        i32 begin = start + (end - start - 1) % block + 1;
        eliminate_first<block>(begin - start, front, start);
        for (; begin < end; begin += block) eliminate_block<block>(front, start, begin);
        const int depth = end - start;
        const Matrix left{upper.at(end, start), upper.stride}, down{lower.at(0, start), lower.stride};
        const Matrix right{upper.at(start, end), upper.stride}, border_right{upper.at(start, own), upper.stride};
        update(own - end, own - end + border, {upper.at(end, end), upper.stride}, left, right, depth);
        update(border, own - end, {lower.at(0, end), lower.stride}, down, right, depth);
        update(border, border, front.rest, down, border_right, depth);
    }
}

void add(Matrix y, Matrix x, i32 rows, i32 columns) {
    for (; rows > 0; --rows, y.data += y.stride, x.data += x.stride) {
        i32 j = 0;
        for (; j + wide_lanes <= columns; j += wide_lanes) store_wide(y.data + j, load_wide(y.data + j) + load_wide(x.data + j));
        for (; j < columns; ++j) y.data[j] += x.data[j];
    }
}

// What is left of the fronts waits on two stacks, of even and of odd depth: a front is made while its children's wait.
void factor(const Plan& plan, const double* steps, double* factors, double* const stacks[2]) {
    double* tops[2] = {stacks[0], stacks[1]};
    for (const Node& node : plan.nodes) {
        const i32 own = node.own, border = node.border;
        double*& top = tops[node.depth % 2];
        double*& below = tops[1 - node.depth % 2];
        const Front front{own, border, node.upper(factors), node.lower(factors), {top, whole(border)}};
        std::fill_n(factors + node.factor, node.factor_size(), 0.0);
        std::fill_n(top, node.rest_size(), 0.0);
        top += node.rest_size();
        for (i32 i = 0; i < own; ++i) *front.upper.at(i, i) = 1;
        for (i64 e = node.entries; e < node.entries_end; ++e) {
            const Entry& entry = plan.entries[e];
            *front.from(entry.row, entry.column).data = -steps[entry.step];
        }
        for (int c = 1; c >= 0; --c) {
            if (node.children[c] < 0) continue;
            const Node& child = plan.nodes[node.children[c]];
            below -= child.rest_size();
            const Matrix rest{below, whole(child.border)};
            for (i64 p = node.runs[c]; p < node.runs_end[c]; ++p) {
                const Run rows = plan.runs[p];
                for (i64 q = node.runs[c]; q < node.runs_end[c]; ++q) {
                    const Run columns = plan.runs[q];
                    add(front.from(rows.to, columns.to), {rest.at(rows.from, columns.from), rest.stride}, rows.length,
                        columns.length);
                }
            }
        }
        eliminate(front);
    }
}

// --------------------------------------------------------------------------------------------------------------- substitution

// Four right-hand sides at a time, side by side at each pixel: y and local hold vec per pixel. Rows of the factors are taken a
// few at a time: a sum alone waits for each of its additions.
constexpr int group = 4;

// y -= a x for R rows of a and count columns.
template <int R>
inline void subtract_rows(vec* y, Matrix a, const vec* x, i32 count) {
    vec sum[R];
    for (int r = 0; r < R; ++r) sum[r] = y[r];
    for (i32 k = 0; k < count; ++k)
        for (int r = 0; r < R; ++r) sum[r] -= broadcast(*a.at(r, k)) * x[k];
    for (int r = 0; r < R; ++r) y[r] = sum[r];
}

// y -= a' x for R rows of a and count columns.
template <int R>
inline void subtract_columns(vec* y, Matrix a, const vec* x, i32 count) {
    vec value[R];
    for (int r = 0; r < R; ++r) value[r] = x[r];
    for (i32 k = 0; k < count; ++k) {
        vec sum = y[k];
        for (int r = 0; r < R; ++r) sum -= broadcast(*a.at(r, k)) * value[r];
        y[k] = sum;
    }
}

// The same for any number of rows.
inline void subtract_rows(vec* y, Matrix a, const vec* x, i32 rows, i32 count) {
    i32 i = 0;
    for (; i + group <= rows; i += group) subtract_rows<group>(y + i, {a.at(i, 0), a.stride}, x, count);
    for (; i < rows; ++i) subtract_rows<1>(y + i, {a.at(i, 0), a.stride}, x, count);
}

inline void subtract_columns(vec* y, Matrix a, const vec* x, i32 rows, i32 count) {
    i32 i = 0;
    for (; i + group <= rows; i += group) subtract_columns<group>(y, {a.at(i, 0), a.stride}, x + i, count);
    for (; i < rows; ++i) subtract_columns<1>(y, {a.at(i, 0), a.stride}, x + i, count);
}

void substitute(const Plan& plan, double* factors, vec* y, vec* local) {
    for (const Node& node : plan.nodes) {
        const i32 own = node.own, border = node.border;
        const i32* pixels = &plan.pixels[node.pixels];
        const Matrix upper = node.upper(factors);
        for (i32 i = 0; i < own + border; ++i) local[i] = y[pixels[i]];
        for (i32 begin = 0; begin < own; begin += group) {
            const i32 end = std::min(own, begin + group);
            subtract_rows(local + begin, {upper.at(begin, 0), upper.stride}, local, end - begin, begin);
            for (i32 i = begin + 1; i < end; ++i)
                subtract_rows<1>(local + i, {upper.at(i, begin), upper.stride}, local + begin, i - begin);
        }
        subtract_rows(local + own, node.lower(factors), local, border, own);
        for (i32 i = 0; i < own + border; ++i) y[pixels[i]] = local[i];
    }
    for (auto node = plan.nodes.rbegin(); node != plan.nodes.rend(); ++node) {
        const i32 own = node->own, size = node->size();
        const i32* pixels = &plan.pixels[node->pixels];
        const Matrix upper = node->upper(factors);
        for (i32 i = 0; i < size; ++i) local[i] = y[pixels[i]];
        for (i32 end = own, begin; end > 0; end = begin) {
            begin = std::max(end - group, 0);
            subtract_rows(local + begin, {upper.at(begin, end), upper.stride}, local + end, end - begin, size - end);
            for (i32 i = end; i-- > begin;) {
                subtract_rows<1>(local + i, {upper.at(i, i + 1), upper.stride}, local + i + 1, end - i - 1);
                local[i] *= broadcast(*upper.at(i, i));
            }
        }
        for (i32 i = 0; i < own; ++i) y[pixels[i]] = local[i];
    }
}

// The same with the transposes of both factors.
void substitute_transposed(const Plan& plan, double* factors, vec* y, vec* local) {
    for (const Node& node : plan.nodes) {
        const i32 own = node.own, size = node.size();
        const i32* pixels = &plan.pixels[node.pixels];
        const Matrix upper = node.upper(factors);
        for (i32 i = 0; i < size; ++i) local[i] = y[pixels[i]];
        for (i32 begin = 0; begin < own; begin += group) {
            const i32 end = std::min(own, begin + group);
            for (i32 i = begin; i < end; ++i) {
                local[i] *= broadcast(*upper.at(i, i));
                subtract_columns<1>(local + i + 1, {upper.at(i, i + 1), upper.stride}, local + i, end - i - 1);
            }
            subtract_columns(local + end, {upper.at(begin, end), upper.stride}, local + begin, end - begin, size - end);
        }
        for (i32 i = 0; i < size; ++i) y[pixels[i]] = local[i];
    }
    for (auto node = plan.nodes.rbegin(); node != plan.nodes.rend(); ++node) {
        const i32 own = node->own, size = node->size();
        const i32* pixels = &plan.pixels[node->pixels];
        const Matrix upper = node->upper(factors);
        for (i32 i = 0; i < size; ++i) local[i] = y[pixels[i]];
        subtract_columns(local, node->lower(factors), local + own, size - own, own);
        for (i32 end = own, begin; end > 0; end = begin) {
            begin = std::max(end - group, 0);
            for (i32 i = end; i-- > begin;)
                subtract_columns<1>(local + begin, {upper.at(i, begin), upper.stride}, local + i, i - begin);
            subtract_columns(local, {upper.at(begin, 0), upper.stride}, local + begin, end - begin, begin);
        }
        for (i32 i = 0; i < own; ++i) y[pixels[i]] = local[i];
    }
}

}  // namespace

// ------------------------------------------------------------------------------------------------------------------ interface

EXPORT void* wss_hitting_plan(i32 height, i32 width) {
    try {
        return new Plan(height, width);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

EXPORT void wss_hitting_free(void* plan) { delete static_cast<Plan*>(plan); }

// Doubles of one image's factors, with scratch behind them.
EXPORT i64 wss_hitting_size(const void* plan) { return static_cast<const Plan*>(plan)->size(); }

// steps (batch,4,H,W) to factors (batch,size).
EXPORT void wss_hitting_factor(const void* handle, const double* steps, double* factors, i64 batch, int threads) {
    const Plan& plan = *static_cast<const Plan*>(handle);
    const i64 count = i64(plan.height) * plan.width;
    advise_huge_pages(factors, sizeof(double) * plan.size() * batch);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (i64 b = 0; b < batch; ++b) {
        double* image = factors + plan.size() * b;
        double* scratch = image + plan.factor_size;
        double* const stacks[2] = {scratch, scratch + plan.stack_sizes[0]};
        factor(plan, steps + 4 * count * b, image, stacks);
    }
}

// rhs and result (batch,labels,H,W). The scratch of the factors is written: one call at a time.
EXPORT void wss_hitting_solve(const void* handle, double* factors, const double* rhs, double* result, i64 batch, i64 labels,
                           int transposed, int threads) {
    const Plan& plan = *static_cast<const Plan*>(handle);
    const i64 count = i64(plan.height) * plan.width;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (i64 b = 0; b < batch; ++b) {
        double* image = factors + plan.size() * b;
        vec* y = reinterpret_cast<vec*>(image + plan.factor_size);
        vec* local = y + count;
        for (i64 first = 0; first < labels; first += lanes) {
            const i64 used = std::min<i64>(lanes, labels - first);
            const double* source = rhs + (b * labels + first) * count;
            for (i64 p = 0; p < count; ++p) {
                vec value = broadcast(0);
                for (i64 l = 0; l < used; ++l) value[l] = source[l * count + p];
                y[p] = value;
            }
            if (transposed) substitute_transposed(plan, image, y, local);
            else substitute(plan, image, y, local);
            double* target = result + (b * labels + first) * count;
            for (i64 l = 0; l < used; ++l)
                for (i64 p = 0; p < count; ++p) target[l * count + p] = y[p][l];
        }
    }
}
