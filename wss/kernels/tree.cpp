// Minimum spanning trees of pixel grids, and sums over them that weigh every other pixel by the path to it.
//
// The meaning is defined by wss/ops/spanning_tree.py; this file is its fast twin on the CPU, reached through a plain C interface
// (ctypes). Trees are found by Kruskal's algorithm: edges are sorted by radix on the bits of their lengths, which are not negative,
// so that their order is that of the numbers, and equal ones stay in the order of the edges. A pixel keeps its neighbours in the tree
// as four bits. Pixels are listed breadth first from the first one, so that parents stand before their children and every pass over
// the tree is a loop over that list.

#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using i32 = std::int32_t;
using i64 = std::int64_t;
using u8 = std::uint8_t;
using u32 = std::uint32_t;

constexpr int status_ok = 0, status_memory = 2;

enum : u8 { right = 1, down = 2, left = 4, up = 8 };

struct Grid {
    i32 height, width;
    i32 pixels() const { return height * width; }
    i32 across() const { return height * (width - 1); }  // edges to the right come first, row by row, then those down
    i32 edges() const { return across() + (height - 1) * width; }
    i32 first(i32 edge) const {
        return edge < across() ? edge / (width - 1) * width + edge % (width - 1) : edge - across();
    }
    i32 to_right(i32 pixel) const { return pixel - pixel / width; }
};

// Edges from short to long, equal ones in their own order.
void sort_edges(const float* lengths, i32 count, std::vector<i32>& order, std::vector<i32>& spare) {
    constexpr int bits = 11, buckets = 1 << bits;
    for (i32 i = 0; i < count; ++i) order[i] = i;
    for (int shift = 0; shift < 32; shift += bits) {
        std::vector<i32> starts(buckets + 1, 0);
        auto digit = [&](i32 edge) {
            u32 key;
            std::memcpy(&key, lengths + edge, sizeof key);
            return (key >> shift) & (buckets - 1);
        };
        for (i32 i = 0; i < count; ++i) ++starts[digit(order[i]) + 1];
        for (int b = 0; b < buckets; ++b) starts[b + 1] += starts[b];
        for (i32 i = 0; i < count; ++i) spare[starts[digit(order[i])]++] = order[i];
        order.swap(spare);
    }
}

i32 root(std::vector<i32>& above, i32 pixel) {
    while (above[pixel] != pixel) pixel = above[pixel] = above[above[pixel]];
    return pixel;
}

void build(const Grid& grid, const float* lengths, i32* order, i32* parent, float* length) {
    const i32 count = grid.pixels(), edges = grid.edges();
    std::vector<i32> sorted(edges), spare(edges), above(count);
    sort_edges(lengths, edges, sorted, spare);
    for (i32 i = 0; i < count; ++i) above[i] = i;
    std::vector<u8> joined(count, 0);
    i32 missing = count - 1;
    for (i32 i = 0; missing > 0; ++i) {
        const i32 edge = sorted[i], one = grid.first(edge);
        const bool across = edge < grid.across();
        const i32 other = across ? one + 1 : one + grid.width;
        const i32 a = root(above, one), b = root(above, other);
        if (a == b) continue;
        above[a] = b;
        joined[one] |= across ? right : down;
        joined[other] |= across ? left : up;
        --missing;
    }
    order[0] = parent[0] = 0;
    length[0] = 0;
    std::vector<u8> came(count, 0);
    i32 end = 1;
    for (i32 at = 0; at < end; ++at) {
        const i32 pixel = order[at];
        const u8 open = joined[pixel] & ~came[pixel];
        auto visit = [&](i32 next, u8 back, i32 edge) {
            came[next] = back;
            order[end] = next;
            parent[end] = at;
            length[end++] = lengths[edge];
        };
        if (open & right) visit(pixel + 1, left, grid.to_right(pixel));
        if (open & down) visit(pixel + grid.width, up, grid.across() + pixel);
        if (open & left) visit(pixel - 1, right, grid.to_right(pixel - 1));
        if (open & up) visit(pixel - grid.width, down, grid.across() + pixel - grid.width);
    }
}

// sums[i] = sum over j of values[j] times the product of the weights on the path from i to j; channels side by side.
void filter(const i32* order, const i32* parent, const double* weight, i32 count, i32 channels, const double* values, double* sums,
            std::vector<double>& rows) {
    for (i32 i = 0; i < count; ++i)
        std::memcpy(&rows[i64(i) * channels], values + i64(order[i]) * channels, channels * sizeof(double));
    for (i32 i = count - 1; i > 0; --i) {
        const double* row = &rows[i64(i) * channels];
        double* to = &rows[i64(parent[i]) * channels];
        for (i32 c = 0; c < channels; ++c) to[c] += weight[i] * row[c];
    }
    for (i32 i = 1; i < count; ++i) {
        const double w = weight[i], rest = 1 - w * w;
        const double* from = &rows[i64(parent[i]) * channels];
        double* row = &rows[i64(i) * channels];
        for (i32 c = 0; c < channels; ++c) row[c] = w * from[c] + rest * row[c];
    }
    for (i32 i = 0; i < count; ++i)
        std::memcpy(sums + i64(order[i]) * channels, &rows[i64(i) * channels], channels * sizeof(double));
}

template <class Work>
int each(i64 images, int threads, Work work) {
    int status = status_ok;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (i64 image = 0; image < images; ++image) {
        try {
            work(image);
        } catch (const std::bad_alloc&) {
#pragma omp critical
            status = status_memory;
        }
    }
    return status;
}

}  // namespace

// Trees of images; lengths (B,E), at least 0 or infinite, not NaN nor -0; order, parent and length (B,N).
EXPORT int wss_tree_build(const float* lengths, i64 images, i32 height, i32 width, i32* order, i32* parent, float* length, int threads) {
    const Grid grid{height, width};
    const i64 n = grid.pixels(), e = grid.edges();
    return each(images, threads,
                [&](i64 b) { build(grid, lengths + b * e, order + b * n, parent + b * n, length + b * n); });
}

// values and sums (B,N,C); weight (B,N) of each listed pixel's edge to its parent.
EXPORT int wss_tree_filter(const i32* order, const i32* parent, const double* weight, const double* values, double* sums, i64 images,
                           i64 pixels, i64 channels, int threads) {
    return each(images, threads, [&](i64 b) {
        std::vector<double> rows(pixels * channels);
        filter(order + b * pixels, parent + b * pixels, weight + b * pixels, i32(pixels), i32(channels),
               values + b * pixels * channels, sums + b * pixels * channels, rows);
    });
}
