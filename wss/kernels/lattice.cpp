// Gaussian filtering in d dimensions on the permutohedral lattice, and DenseCRF mean-field built on it.
//
// The meaning is defined by wss/ops/lattice.py; this file is its fast twin on the CPU, reached through a plain C interface (ctypes).
// A lattice is built once per image: each pixel lies in one simplex and keeps its d + 1 vertices and barycentric weights; each vertex
// knows its two neighbours along the d + 1 lattice directions. A filter is then splat (pixels to vertices), blur (along each direction
// in turn) and slice (back to pixels). All K channels of a vertex lie side by side, so that every step works on whole vectors.
//
// Fine lattices do not fit the caches, and waiting for memory is then what takes the time. Vertices are sorted by y, then x, then
// colour, and pixels are visited in small tiles. In five dimensions a blur takes two passes over memory instead of six: steps along
// directions 0 to 2 keep two differences of coordinates, steps along 3 to 5 keep x and y, so that the vertices fall into blocks which
// three directions at a time never leave. In two dimensions the blur sweeps over the rows, each direction a few rows behind the one before.
//
// Vertex 0 is a dummy whose values stay zero: absent neighbours and pixels outside the region of interest (weight 0) point at it.
// Vectors are GCC's portable vector types: compiled for a plain x86-64 or ARM they become 128-bit operations, with -mavx2 256-bit
// ones, and with AVX-512 pairs of these are one.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__SSE__)
#include <immintrin.h>
#endif

namespace {

using i32 = std::int32_t;
using i64 = std::int64_t;
using u64 = std::uint64_t;

typedef float float4 __attribute__((vector_size(16)));
typedef float float8 __attribute__((vector_size(32)));
typedef float float16 __attribute__((vector_size(64)));
typedef i32 int4 __attribute__((vector_size(16)));
typedef i32 int8 __attribute__((vector_size(32)));
typedef i32 int16 __attribute__((vector_size(64)));

// ---------------------------------------------------------------------------------------------------------------- small tools

template <class To, class From>
inline To bits(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}

template <class V> struct IntOf;
template <> struct IntOf<float> { using type = i32; };
template <> struct IntOf<float4> { using type = int4; };
template <> struct IntOf<float8> { using type = int8; };
template <> struct IntOf<float16> { using type = int16; };
template <class V> constexpr int lanes = int(sizeof(V) / sizeof(float));

template <class V> inline V broadcast(float x);
template <> inline float broadcast<float>(float x) { return x; }
template <> inline float4 broadcast<float4>(float x) { return float4{x, x, x, x}; }
template <> inline float8 broadcast<float8>(float x) { return float8{x, x, x, x, x, x, x, x}; }
template <> inline float16 broadcast<float16>(float x) { return float16{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

// The first n lanes; n may be 0 or negative, which means none.
template <class V>
inline V load(const float* from, int n) {
    V v{};
    if (n == lanes<V>)
        std::memcpy(&v, from, sizeof v);
    else if (n > 0)
        std::memcpy(&v, from, sizeof(float) * n);
    return v;
}

template <class V>
inline void store(float* to, V v, int n) {
    if (n == lanes<V>)
        std::memcpy(to, &v, sizeof v);
    else if (n > 0)
        std::memcpy(to, &v, sizeof(float) * n);
}

template <class V>
inline V larger(V a, V b) {
#if defined(__AVX2__)
    if constexpr (sizeof(V) == 32) return _mm256_max_ps(a, b);
#endif
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64) return _mm512_max_ps(a, b);
#endif
    return a > b ? a : b;
}

// 2^x for x <= 0 to about 2 units in the last place. At -127 and below the exponent field comes out as 0 and so does the result.
template <class V>
inline V exp2_nonpositive(V x) {
    using I = typename IntOf<V>::type;
    x = larger<V>(x, broadcast<V>(-127.0f));
    const float magic = 12582912.0f + 127.0f;  // adding 1.5 * 2^23 rounds to an integer in the low bits; 127 is the exponent's bias
    const V shifted = x + magic;
    const V r = x - (shifted - magic);
    V p = r * 1.32647e-3f + 9.67151e-3f;  // minimax on [-1/2, 1/2], relative error 9e-8
    p = p * r + 5.550734e-2f;
    p = p * r + 2.4022242e-1f;
    p = p * r + 6.9314698e-1f;
    p = p * r + 1.0f;
    return p * bits<V>(bits<I>(shifted) << 23);
}

// Vectors at addresses that are aligned to less than their size.
template <class X> struct Loose;
template <> struct Loose<float> { typedef float type __attribute__((may_alias)); };
template <> struct Loose<float4> { typedef float type __attribute__((vector_size(16), aligned(4), may_alias)); };
template <> struct Loose<float8> { typedef float type __attribute__((vector_size(32), aligned(4), may_alias)); };
template <> struct Loose<float16> { typedef float type __attribute__((vector_size(64), aligned(4), may_alias)); };

template <class X> inline X peek(const void* from) { return *static_cast<const typename Loose<X>::type*>(from); }
template <class X> inline void poke(void* to, X x) { *static_cast<typename Loose<X>::type*>(to) = x; }

// All channels of one vertex or pixel in registers: NB vectors of type V, of which AVX-512 takes two at a time.
template <class V, int NB>
struct Row {
#if defined(__AVX512F__)
    static constexpr int kWide = sizeof(V) == 32 ? NB / 2 : 0;
#else
    static constexpr int kWide = 0;
#endif
    static constexpr int kRest = NB - 2 * kWide;
    float16 wide[kWide];
    V rest[kRest];

    // this = f(this, row) for each vector, or row = f(this, row).
    template <class F>
    inline __attribute__((always_inline)) void take(const V* row, F f) {
        for (int b = 0; b < kWide; ++b) wide[b] = f(wide[b], peek<float16>(row + 2 * b));
        for (int b = 0; b < kRest; ++b) rest[b] = f(rest[b], peek<V>(row + 2 * kWide + b));
    }
    template <class F>
    inline __attribute__((always_inline)) void give(V* row, F f) const {
        for (int b = 0; b < kWide; ++b) poke<float16>(row + 2 * b, f(wide[b], row + 2 * b));
        for (int b = 0; b < kRest; ++b) poke<V>(row + 2 * kWide + b, f(rest[b], row + 2 * kWide + b));
    }
    static inline Row load(const V* from) {
        Row row;
        for (int b = 0; b < kWide; ++b) row.wide[b] = peek<float16>(from + 2 * b);
        for (int b = 0; b < kRest; ++b) row.rest[b] = peek<V>(from + 2 * kWide + b);
        return row;
    }
    inline void store(V* to) const {
        give(to, [](auto x, V*) { return x; });
    }
    inline void add(float w, const V* row) {  // this += w * row
        take(row, [w](auto x, auto y) { return x + w * y; });
    }
    inline void add_to(V* row, float w) const {  // row += w * this
        give(row, [w](auto x, V* y) { return peek<decltype(x)>(y) + w * x; });
    }
    inline void add(const V* row) {
        take(row, [](auto x, auto y) { return x + y; });
    }
    inline void halve_and_add(const V* row) {  // this = row + this / 2
        take(row, [](auto x, auto y) { return y + 0.5f * x; });
    }
    inline void mean(const V* row) {
        take(row, [](auto x, auto y) { return 0.5f * (x + y); });
    }
    inline void scale(float w) {
        for (int b = 0; b < kWide; ++b) wide[b] *= w;
        for (int b = 0; b < kRest; ++b) rest[b] *= w;
    }
    static inline Row blurred(const Row& here, const Row& before, float from_before, const Row& after, float from_after) {
        Row row;
        for (int b = 0; b < kWide; ++b) row.wide[b] = here.wide[b] + from_before * before.wide[b] + from_after * after.wide[b];
        for (int b = 0; b < kRest; ++b) row.rest[b] = here.rest[b] + from_before * before.rest[b] + from_after * after.rest[b];
        return row;
    }
};

// Denormal numbers (softmax tails) slow arithmetic some twenty times; the caller's mode is restored afterwards.
class FlushDenormals {
#if defined(__SSE__)
    unsigned saved_ = _mm_getcsr();
  public:
    FlushDenormals() { _mm_setcsr(saved_ | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(saved_); }
#elif defined(__aarch64__)
    u64 saved_;
  public:
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(saved_));
        asm volatile("msr fpcr, %0" : : "r"(saved_ | (u64(1) << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
  public:
    FlushDenormals() {}
#endif
};

// Calls f(part, parts) for each of `parts` equal shares of the work, one thread each when OpenMP grants that many. Exceptions (out of
// memory) may not leave a parallel region, so they are carried across.
template <class F>
void parallel(int parts, F f) {
    bool failed = false;
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 1) num_threads(parts) if (parts > 1)
#endif
    for (int part = 0; part < parts; ++part) {
        FlushDenormals flush;
        try {
            f(part, parts);
        } catch (...) {
#ifdef _OPENMP
#pragma omp atomic write
#endif
            failed = true;
        }
    }
    if (failed) throw std::bad_alloc();
}

// Runs f(image, threads) for every image: images side by side when there are enough of them, else one after another on all threads.
template <class F>
void for_each_image(i64 count, int threads, F f) {
    if (count < threads) {
        for (i64 b = 0; b < count; ++b) f(b, threads);
        return;
    }
    i64 next = 0;
    parallel(threads, [&](int, int) {
        for (;;) {
            i64 b;
#ifdef _OPENMP
#pragma omp atomic capture
#endif
            b = next++;
            if (b >= count) return;
            f(b, 1);
        }
    });
}

inline i64 share(i64 n, int part, int parts) { return n * part / parts; }

constexpr std::size_t kHugePage = std::size_t(1) << 21;

// Thousands of page faults add up: asks for huge pages in what they cover entirely.
inline void advise_huge_pages([[maybe_unused]] void* start, [[maybe_unused]] std::size_t bytes) {
#if defined(MADV_HUGEPAGE)
    const std::uintptr_t first = (reinterpret_cast<std::uintptr_t>(start) + kHugePage - 1) / kHugePage * kHugePage;
    const std::uintptr_t last = (reinterpret_cast<std::uintptr_t>(start) + bytes) / kHugePage * kHugePage;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

template <class T>
class Buffer {  // aligned, uninitialised
    T* data_ = nullptr;
    std::size_t size_ = 0;

  public:
    Buffer() = default;
    explicit Buffer(std::size_t n) { resize(n); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    Buffer(Buffer&& o) noexcept : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
    void swap(Buffer& o) {
        std::swap(data_, o.data_);
        std::swap(size_, o.size_);
    }
    ~Buffer() { std::free(data_); }
    void resize(std::size_t n) {
        std::free(data_);
        const std::size_t align = n * sizeof(T) < kHugePage ? 64 : kHugePage, bytes = (n * sizeof(T) / align + 1) * align;
        data_ = static_cast<T*>(std::aligned_alloc(align, bytes));
        if (!data_) throw std::bad_alloc();
        advise_huge_pages(data_, bytes);
        size_ = n;
    }
    T* data() { return data_; }
    const T* data() const { return data_; }
    std::size_t size() const { return size_; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }
};

// ------------------------------------------------------------------------------------------------------------------- lattice

// How positions become lattice coordinates; worked out once in Python so that all implementations agree.
struct Geometry {
    i32 dims;
    i32 ring;
    float scale[5];
};

// Keys of vertices. With c_0 .. c_d the coordinates of a vertex, which sum to 0, and f the scaled features of the point there,
//     p_i = (sum_(j<i) c_j - i c_i) / (d + 1) = i (i + 1) / (d + 1) f_(i-1),   i = 1 .. d,
// are whole numbers, one for each feature. A step along direction j adds i to p_j and takes 1 from every p_i with i > j. The key
// is a mixed-radix number of all p_i: y first, then x, then the colours. So its order is that of the features, and steps add constants.
template <int D>
struct Keys {
    i64 origin = 0;
    i64 step[D + 1];    // along direction j; the point whose coordinate j is d + 1 and whose others are 0 is at its negative
    i64 radix[D + 1];   // of p_1 .. p_d in the key
    i64 lowest[D + 1];  // p_i are at least this

    Keys(const Geometry& g, i64 height, i64 width) {
        const float largest[5] = {float(width - 1), float(height - 1), 255, 255, 255};
        i64 place = 1;
        radix[0] = lowest[0] = 0;
        for (int n = D; n > 0; --n) {
            const int i = n == 1 ? 2 : n == 2 ? 1 : n;
            const i64 margin = 3 * i + 3;  // a simplex, the ring and its neighbours reach i each
            radix[i] = place;
            lowest[i] = -margin;
            origin += margin * place;
            const i64 extent = i64(std::ceil(i * (i + 1) * double(g.scale[i - 1]) * largest[i - 1] / (D + 1))) + 2 * margin + 1;
            place *= extent;  // below 2^63 as long as coordinates have the bits that Python grants them
        }
        for (int j = 0; j <= D; ++j) {
            step[j] = j * radix[j];
            for (int i = j + 1; i <= D; ++i) step[j] -= radix[i];
        }
    }
};

constexpr u64 kEmpty = ~u64(0);

class Vertices {  // key -> id in order of first sight; id 0 is the dummy
    std::vector<u64> slots_;
    std::vector<i32> ids_;
    int shift_;

    std::size_t home(u64 key) const { return (key * 0x9E3779B97F4A7C15ull) >> shift_; }
    void grow() {
        --shift_;
        slots_.assign(std::size_t(1) << (64 - shift_), kEmpty);
        ids_.resize(slots_.size());
        for (std::size_t id = 1; id < keys.size(); ++id) {
            std::size_t s = home(keys[id]);
            while (slots_[s] != kEmpty) s = (s + 1) & (slots_.size() - 1);
            slots_[s] = keys[id];
            ids_[s] = i32(id);
        }
    }

  public:
    std::vector<u64> keys{kEmpty};

    Vertices() : slots_(std::size_t(1) << 14, kEmpty), ids_(slots_.size()), shift_(64 - 14) {}
    i32 find(u64 key) const {
        for (std::size_t s = home(key);; s = (s + 1) & (slots_.size() - 1)) {
            if (slots_[s] == key) return ids_[s];
            if (slots_[s] == kEmpty) return 0;
        }
    }
    i32 insert(u64 key) {
        std::size_t s = home(key);
        for (; slots_[s] != kEmpty; s = (s + 1) & (slots_.size() - 1))
            if (slots_[s] == key) return ids_[s];
        const i32 id = i32(keys.size());
        slots_[s] = key;
        ids_[s] = id;
        keys.push_back(key);
        if (keys.size() * 2 > slots_.size()) grow();
        return id;
    }
};

template <int D>
struct Pixel {
    i32 vertex[D + 1];
    float weight[D + 1];
};

struct Neighbours {
    i32 before, after;
};

// A vertex on a line of neighbours and what it takes from the vertex before it: half, or nothing at the start of a line.
struct Link {
    i32 vertex;
    float half;
};

// Consecutive pixels of one row. Lattices and everything computed per pixel are in the order of runs: tile after tile, within a tile row
// after row, since pixels that are near each other share vertices.
struct Run {
    i64 start;  // in the image
    i64 at;     // in the order of runs
    int n;
};

constexpr int kTile = 48;        // pixels of a run at most
constexpr int kTileHeight = 16;

inline std::vector<Run> runs_of(i64 height, i64 width) {
    const i64 columns = (width + kTile - 1) / kTile;
    const i64 tile = ((width + columns - 1) / columns + 7) / 8 * 8;  // vectors are full but in the last column
    std::vector<Run> runs;
    i64 at = 0;
    for (i64 top = 0; top < height; top += kTileHeight)
        for (i64 left = 0; left < width; left += tile)
            for (i64 y = top; y < std::min(height, top + kTileHeight); ++y) {
                const int n = int(std::min(tile, width - left));
                runs.push_back({y * width + left, at, n});
                at += n;
            }
    return runs;
}

struct AnyLattice {
    const int dims;
    const i64 pixels_count;
    i64 vertices_count = 1;  // with the dummy
    AnyLattice(int d, i64 n) : dims(d), pixels_count(n) {}
    virtual ~AnyLattice() = default;
};

template <int D>
struct Lattice : AnyLattice {
    Buffer<Pixel<D>> pixels;  // in the order of runs
    std::vector<Run> runs;
    // d = 2
    Buffer<Neighbours> neighbours;  // [direction][vertex]
    std::vector<i64> bands;         // first vertex of each y, without gaps, and the end
    // d = 5
    std::vector<Link> lines[D + 1];  // of each direction, block after block; a block's links end with one to the dummy
    std::vector<std::array<i64, 3>> blocks[2];  // where the links of directions 0 .. 2 and of 3 .. 5 start

    Lattice(const Geometry& g, const float* image, const std::uint8_t* roi, i64 height, i64 width, int threads);
    const Neighbours* along(int direction) const { return neighbours.data() + direction * vertices_count; }

  private:
    void sort_rows(const std::vector<u64>& keys, const Keys<D>& steps);
    void make_blocks(const std::vector<u64>& keys, const Keys<D>& steps);
};

// Places pixels [begin, end): see Adams, Baek and Davis 2010, section 3.1. Eight pixels at a time until the look-up of their vertices.
template <int D>
void place(const Geometry& g, const Keys<D>& keys, const float* image, const std::uint8_t* roi, i64 width, i64 count, const Run* run,
           const Run* last_run, Vertices& vertices, Pixel<D>* pixels) {
    struct Simplex {
        u64 key = kEmpty;
        i32 order = 0;
        i32 vertex[D + 1] = {};
    };
    constexpr int kCacheBits = 11;
    std::vector<Simplex> cache(std::size_t(1) << kCacheBits);

    for (; run != last_run; ++run)
    for (int done = 0; done < run->n; done += 8) {
        const i64 start = run->start + done;
        Pixel<D>* const out = pixels + run->at + done;
        const int n = std::min(8, run->n - done);
        float8 feature[D];
        for (int c = 2; c < D; ++c) feature[c] = load<float8>(image + (c - 2) * count + start, n);
        feature[0] = broadcast<float8>(float(start % width)) + float8{0, 1, 2, 3, 4, 5, 6, 7};
        feature[1] = broadcast<float8>(float(start / width));
        float8 elevated[D + 1], sum{};
        for (int i = D; i > 0; --i) {
            const float8 f = feature[i - 1] * g.scale[i - 1];
            elevated[i] = sum - f * float(i);
            sum += f;
        }
        elevated[0] = sum;

        // Nearest point whose coordinates are multiples of d + 1, then the ranks of the remainders; off the plane sum = 0, the
        // coordinates that were rounded worst are moved by one multiple.
        const float magic = 12582912.0f;
        float8 remainder[D + 1], excess{};
        int8 base[D + 1], rank[D + 1];
        for (int i = 0; i <= D; ++i) {
            const float8 rounded = (elevated[i] * (1.0f / (D + 1)) + magic) - magic;
            excess += rounded;
            base[i] = __builtin_convertvector(rounded, int8);
            remainder[i] = elevated[i] - rounded * float(D + 1);
            rank[i] = int8{};
        }
        for (int i = 0; i < D; ++i)
            for (int j = i + 1; j <= D; ++j) {
                const int8 less = remainder[i] < remainder[j];
                rank[i] -= less;
                rank[j] += 1 + less;
            }
        const int8 shift = __builtin_convertvector(excess, int8);
        int8 order{};
        for (int i = 0; i <= D; ++i) {
            rank[i] += shift;
            const int8 low = rank[i] < 0, high = rank[i] > D;  // 0 or -1
            const int8 move = (low & (D + 1)) - (high & (D + 1));
            rank[i] += move;
            base[i] += high - low;
            remainder[i] = (remainder[i] - __builtin_convertvector(move, float8)) * (1.0f / (D + 1));
            order = order * 8 + rank[i];
        }

        // Barycentric weights are differences of the remainders in descending order.
        float8 sorted[D + 1];
        std::copy(remainder, remainder + D + 1, sorted);
        for (int end = D; end > 0; --end)
            for (int i = 0; i < end; ++i) {
                const float8 first = sorted[i], second = sorted[i + 1];
                sorted[i] = larger<float8>(first, second);
                sorted[i + 1] = -larger<float8>(-first, -second);
            }
        float weight[D + 1][8];
        for (int r = 0; r <= D; ++r) {
            const float8 w = r == 0 ? 1.0f + sorted[D] - sorted[0] : sorted[D - r] - sorted[D + 1 - r];
            std::memcpy(weight[r], &w, sizeof w);
        }

        for (int l = 0; l < n; ++l) {
            Pixel<D>& pixel = out[l];
            if (roi && !roi[start + l]) {
                pixel = Pixel<D>{};
                continue;
            }
            u64 key = u64(keys.origin);
            for (int i = 0; i <= D; ++i) key -= u64(i64(base[i][l]) * keys.step[i]);
            Simplex& seen = cache[((key ^ (u64(order[l]) << 40)) * 0x9E3779B97F4A7C15ull) >> (64 - kCacheBits)];
            if (seen.key != key || seen.order != order[l]) {
                seen.key = key;
                seen.order = order[l];
                i64 steps[D + 1];
                for (int i = 0; i <= D; ++i) steps[rank[i][l]] = keys.step[i];
                u64 corner = key;
                for (int r = 0; r <= D; ++r) {
                    seen.vertex[r] = vertices.insert(corner);
                    corner += u64(steps[D - r]);
                }
            }
            for (int r = 0; r <= D; ++r) {
                pixel.vertex[r] = seen.vertex[r];
                pixel.weight[r] = weight[r][l];
            }
        }
    }
}

// Sorts keys, the dummy's aside, and returns the place of each.
inline std::vector<i32> sort(std::vector<u64>& keys) {
    struct Entry {
        u64 key;
        i32 id;
    };
    const std::size_t n = keys.size() - 1;
    Buffer<Entry> from(n), to(n);
    u64 used = 0;  // bits in which keys differ
    for (std::size_t i = 0; i < n; ++i) {
        from[i] = {keys[i + 1], i32(i + 1)};
        used |= keys[i + 1] ^ keys[1];
    }
    constexpr int kDigit = 11;
    std::vector<std::size_t> start(1 << kDigit);
    for (int shift = 0; shift < 64 && used >> shift; shift += kDigit) {  // least significant digit first
        const auto digit = [&](u64 key) { return (key >> shift) & ((1 << kDigit) - 1); };
        if (!digit(used)) continue;
        std::fill(start.begin(), start.end(), 0);
        for (std::size_t i = 0; i < n; ++i) ++start[digit(from[i].key)];
        std::size_t sum = 0;
        for (std::size_t& s : start) sum += std::exchange(s, sum);
        for (std::size_t i = 0; i < n; ++i) to[start[digit(from[i].key)]++] = from[i];
        from.swap(to);
    }
    std::vector<i32> rank(n + 1);
    for (std::size_t i = 0; i < n; ++i) {
        keys[i + 1] = from[i].key;
        rank[from[i].id] = i32(i + 1);
    }
    return rank;
}

template <int D>
Lattice<D>::Lattice(const Geometry& g, const float* image, const std::uint8_t* roi, i64 height, i64 width, int threads)
    : AnyLattice(D, height * width), pixels(height * width), runs(runs_of(height, width)) {
    const i64 count = pixels_count, parts_of = i64(runs.size());
    const Keys<D> keys(g, height, width);
    std::vector<Vertices> found(threads);
    parallel(threads, [&](int part, int parts) {
        place<D>(g, keys, image, roi, width, count, &runs[0] + share(parts_of, part, parts), &runs[0] + share(parts_of, part + 1, parts),
                 found[part], pixels.data());
    });
    Vertices& all = found[0];
    std::vector<std::vector<i32>> renamed(threads);
    for (int t = 1; t < threads; ++t) {
        renamed[t].reserve(found[t].keys.size());
        renamed[t].push_back(0);
        for (std::size_t id = 1; id < found[t].keys.size(); ++id) renamed[t].push_back(all.insert(found[t].keys[id]));
    }
    if (g.ring) {
        const std::size_t touched = all.keys.size();
        for (std::size_t id = 1; id < touched; ++id)
            for (int j = 0; j <= D; ++j) {
                all.insert(all.keys[id] + u64(keys.step[j]));
                all.insert(all.keys[id] - u64(keys.step[j]));
            }
    }
    vertices_count = i64(all.keys.size());
    const std::vector<i32> rank = sort(all.keys);
    for (int t = 1; t < threads; ++t)
        for (i32& id : renamed[t]) id = rank[id];
    parallel(threads, [&](int part, int parts) {
        const std::vector<i32>& names = part == 0 ? rank : renamed[part];
        const auto pixel = [&](int p) { return p == parts ? count : runs[share(parts_of, p, parts)].at; };
        for (i64 p = pixel(part), end = pixel(part + 1); p < end; ++p)
            for (i32& v : pixels[p].vertex) v = names[v];
    });
    if constexpr (D == 2) sort_rows(all.keys, keys);
    else make_blocks(all.keys, keys);
}

// For each direction, the vertex after each, or the dummy. Keys and the same keys moved by one step are both sorted, so that one walk along
// both finds all pairs. Each move of the walk depends on the one before: making those of all directions in turn hides the wait.
template <int D>
Buffer<i32> successors(const std::vector<u64>& keys, const Keys<D>& steps) {
    const i64 m = i64(keys.size());
    Buffer<i32> after(m * (D + 1));
    std::memset(after.data(), 0, sizeof(i32) * after.size());
    i64 here[D + 1], there[D + 1];
    std::fill(here, here + D + 1, 1);
    std::fill(there, there + D + 1, 1);
    for (bool going = m > 1; going;) {
        going = false;
        for (int j = 0; j <= D; ++j) {
            const bool more = (here[j] < m) & (there[j] < m);
            const i64 v = more ? here[j] : 0, u = more ? there[j] : 0;
            const i64 wanted = i64(keys[v]) + steps.step[j], found = i64(keys[u]);
            after[j * m + v] = wanted == found ? i32(u) : 0;
            here[j] += more & (wanted <= found);
            there[j] += more & (found <= wanted);
            going |= more;
        }
    }
    for (int j = 0; j <= D; ++j) after[j * m] = 0;
    return after;
}

template <int D>
void Lattice<D>::sort_rows(const std::vector<u64>& keys, const Keys<D>& steps) {
    const i64 m = vertices_count, first = m > 1 ? i64(keys[1]) / steps.radix[2] : 0;
    for (i64 v = 1; v < m; ++v)
        for (const i64 band = i64(keys[v]) / steps.radix[2] - first; i64(bands.size()) <= band;) bands.push_back(v);
    bands.push_back(m);
    const Buffer<i32> after = successors<D>(keys, steps);
    neighbours.resize(m * (D + 1));
    std::memset(static_cast<void*>(neighbours.data()), 0, sizeof(Neighbours) * neighbours.size());
    for (int j = 0; j <= D; ++j) {
        Neighbours* links = neighbours.data() + j * m;
        for (i64 v = 1; v < m; ++v) {
            links[v].after = after[j * m + v];
            links[after[j * m + v]].before = i32(v);
        }
        links[0] = Neighbours{0, 0};
    }
}

constexpr i64 kBlock = 1024;  // vertices of a block at least, where there are as many
constexpr int kAhead = 12;    // links; what they lead to is fetched this early

template <int D>
void Lattice<D>::make_blocks(const std::vector<u64>& keys, const Keys<D>& steps) {
    const i64 m = vertices_count;
    const Buffer<i32> after = successors<D>(keys, steps);
    std::vector<u64> colours(m), places(m);
    for (i64 v = 1; v < m; ++v) {
        const u64 key = keys[v], q3 = key / u64(steps.radix[3]), rest3 = key - q3 * u64(steps.radix[3]);
        const u64 q4 = rest3 / u64(steps.radix[4]);
        const i64 p3 = i64(q3) % (steps.radix[1] / steps.radix[3]) + steps.lowest[3], p4 = i64(q4) + steps.lowest[4];
        const i64 p5 = i64(rest3 - q4 * u64(steps.radix[4])) + steps.lowest[5];
        const i64 c5 = -p5, c4 = (-6 * p4 - c5) / 5, c3 = (-6 * p3 - c4 - c5) / 4;
        colours[v] = u64((c3 - c4 + (i64(1) << 20)) << 21 | (c4 - c5 + (i64(1) << 20)));
        places[v] = key / u64(steps.radix[1]);
    }
    std::vector<u64> sorted = colours;
    const std::vector<i32> rank = sort(sorted);
    std::vector<i32> order(m);
    for (i64 v = 0; v < m; ++v) order[rank[v]] = i32(v);
    std::vector<std::uint8_t> linked(m);
    for (int j = 0; j <= D; ++j) {
        const bool crossing = j < 3;
        const i32* next = after.data() + j * m;
        std::vector<Link>& line = lines[j];
        line.reserve(m + m / 8 + 64);
        std::fill(linked.begin(), linked.end(), 0);
        for (i64 v = 1; v < m; ++v) linked[next[v]] = 1;
        std::vector<std::array<i64, 3>>& all = blocks[crossing ? 0 : 1];
        std::size_t block = 0;
        i64 filled = kBlock;
        u64 before = kEmpty;
        for (i64 i = 1; i < m; ++i) {
            const i32 v = crossing ? order[i] : i32(i);
            const u64 now = crossing ? sorted[i] : places[i];
            if (now != before && filled >= kBlock) {
                if (i > 1) line.push_back({0, 0.0f});
                if (block == all.size()) all.push_back({});
                all[block++][j % 3] = i64(line.size());
                filled = 0;
            }
            before = now;
            ++filled;
            if (linked[v] || next[v] == 0) continue;
            line.push_back({v, 0.0f});
            for (i32 u = next[v]; u != 0; u = next[u]) line.push_back({u, 0.5f});
        }
        line.insert(line.end(), kAhead + 1, Link{0, 0.0f});
    }
}

// ---------------------------------------------------------------------------------------------------------- splat, blur, slice

// Channels of one vertex or pixel: NB vectors of type V. Premultiplied vertices count 8 bytes instead of rows,
// a step that addresses can take for free.
template <class V, int NB, bool kPremultiplied>
inline V* row_of(V* values, i32 vertex) {
    V* row = kPremultiplied ? reinterpret_cast<V*>(reinterpret_cast<std::uintptr_t>(values) + i64(vertex) * 8) : values + i64(vertex) * NB;
    asm("" : "+r"(row));  // one address for all channels
    return row;
}

template <class V, int NB, bool kPremultiplied, int D>
inline void splat(const Pixel<D>& pixel, const V* q, V* values) {
    Row<V, NB> channels = Row<V, NB>::load(q);
    for (int r = 0; r <= D; ++r) channels.add_to(row_of<V, NB, kPremultiplied>(values, pixel.vertex[r]), pixel.weight[r]);
}

// row += the value interpolated at the pixel.
template <class V, int NB, bool kPremultiplied, int D>
inline void slice(const Pixel<D>& pixel, const V* values, Row<V, NB>& row) {
    for (int r = 0; r <= D; ++r) row.add(pixel.weight[r], row_of<V, NB, kPremultiplied>(const_cast<V*>(values), pixel.vertex[r]));
}

// out = blur of `in` with (1/2, 1, 1/2) along one direction; with `mean_with`, the mean of both.
template <class V, int NB>
void blur_rows(const Lattice<2>& lattice, int direction, const V* in, V* out, i64 begin, i64 end, const V* mean_with) {
    const Neighbours* links = lattice.along(direction);
    for (i64 v = begin; v < end; ++v) {
        auto sum = Row<V, NB>::load(in + i64(links[v].before) * NB);
        sum.add(in + i64(links[v].after) * NB);
        sum.halve_and_add(in + v * NB);
        if (mean_with) sum.mean(mean_with + v * NB);
        sum.store(out + v * NB);
    }
}

// The same along the lines of one direction in one block, in place.
template <class V, int NB>
void blur_lines(const Link* link, V* values) {
    Row<V, NB> before{}, here = Row<V, NB>::load(values + i64(link->vertex) * NB);
    for (; link->vertex != 0; ++link) {
        const V* later = values + i64(link[kAhead].vertex) * NB;
        __builtin_prefetch(later, 1);
        __builtin_prefetch(later + NB - 1, 1);
        const auto after = Row<V, NB>::load(values + i64(link[1].vertex) * NB);
        Row<V, NB>::blurred(here, before, link->half, after, link[1].half).store(values + i64(link->vertex) * NB);
        before = here;
        here = after;
    }
}

enum Order { kForward = 0, kReverse = 1, kMean = 2, kThereAndBack = 3 };

constexpr std::size_t kWorthSharing = std::size_t(4) << 20;  // bytes; below, a sweep is over before a second thread has woken up

// Vertex values and the room to blur them. `current` receives splats and holds the result of a blur.
template <class V, int NB, int D>
class Field {
    const Lattice<D>& lattice_;
    const i64 size_;
    const int threads_;
    Buffer<V> first_, second_, third_;
    std::vector<Buffer<V>> private_;  // one per thread after the first, so that splats never collide
    V *current_, *spare_, *extra_;

    // d = 2. Runs f(direction, begin, end) on the bands of vertices. One thread takes the bands in turn, the second and third direction
    // `lag` bands behind the first. Several threads finish a direction before the next, each with its share.
    template <class F>
    void rows(const std::array<int, 3>& lag, F f) {
        const std::vector<i64>& bands = lattice_.bands;
        const i64 count = i64(bands.size()) - 1, m = lattice_.vertices_count - 1;
        if (threads_ == 1) {
            parallel(1, [&](int, int) {
                for (i64 t = 0; t < count + lag[2]; ++t)
                    for (int step = 0; step < 3; ++step)
                        if (const i64 b = t - lag[step]; b >= 0 && b < count) f(step, bands[b], bands[b + 1]);
            });
            return;
        }
        for (int step = 0; step < 3; ++step)
            parallel(threads_, [&](int part, int parts) { f(step, 1 + share(m, part, parts), 1 + share(m, part + 1, parts)); });
    }
    // d = 5. Three directions in place.
    void lines(int which, bool reverse, V* values) {
        const auto& blocks = lattice_.blocks[which];
        const i64 count = i64(blocks.size());
        parallel(threads_, [&](int part, int parts) {
            for (i64 b = share(count, part, parts), end = share(count, part + 1, parts); b < end; ++b)
                for (int i = 0; i < 3; ++i) {
                    const int j = reverse ? 2 - i : i;
                    blur_lines<V, NB>(lattice_.lines[3 * which + j].data() + blocks[b][j], values);
                }
        });
    }
    // Along 0 .. d or d .. 0, `from` -> `to`; `other`, which may be `from`, is overwritten. With `mean_with`, the mean of both.
    void run(bool reverse, V* from, V* to, V* other, const V* mean_with = nullptr) {
        if constexpr (D == 2) {
            const auto rows_along = [this](int direction, const V* in, V* out, i64 begin, i64 end, const V* mean) {
                blur_rows<V, NB>(lattice_, direction, in, out, begin, end, mean);
            };
            // Direction 2 reaches two rows, the others one; a row is overwritten when no direction needs it any more.
            if (!reverse)
                rows({0, 1, 3}, [=](int step, i64 begin, i64 end) {
                    if (step == 0) rows_along(0, from, to, begin, end, nullptr);
                    if (step == 1) rows_along(1, to, other, begin, end, nullptr);
                    if (step == 2) rows_along(2, other, to, begin, end, mean_with);
                });
            else
                rows({0, 2, 3}, [=](int step, i64 begin, i64 end) {
                    if (step == 0) rows_along(2, from, to, begin, end, nullptr);
                    if (step == 1) rows_along(1, to, other, begin, end, nullptr);
                    if (step == 2) rows_along(0, other, to, begin, end, mean_with);
                });
        }
    }
  public:
    Field(const Lattice<D>& lattice, int threads, bool three)
        : lattice_(lattice),
          size_(lattice.vertices_count * NB),
          threads_(sizeof(V) * size_ > kWorthSharing ? threads : 1),
          first_(size_),
          second_(size_),
          third_(three && D == 2 ? size_ : 0) {
        for (int t = 1; t < threads; ++t) private_.emplace_back(size_);
        current_ = first_.data();
        spare_ = second_.data();
        extra_ = third_.size() ? third_.data() : nullptr;
        for (V* values : {current_, spare_, extra_})
            if (values) std::memset(static_cast<void*>(values), 0, sizeof(V) * NB);  // the dummy
    }
    const V* values() const { return current_; }
    // Zeros to splat to, for one thread. The result stays readable meanwhile; `turn` then makes the sum of all splats the current values.
    V* target(int part) {
        V* const values = part == 0 ? spare_ : private_[part - 1].data();
        std::memset(static_cast<void*>(values), 0, sizeof(V) * size_);
        return values;
    }
    void turn() {
        std::swap(current_, spare_);
        if (private_.empty()) return;
        parallel(threads_, [&](int part, int parts) {
            for (const Buffer<V>& other : private_)
                for (i64 i = share(size_, part, parts), end = share(size_, part + 1, parts); i < end; ++i) current_[i] += other[i];
        });
    }
    bool finite() const {
        V sum{};
        for (i64 i = 0; i < size_; ++i) sum += current_[i] * 0.0f;  // 0, or NaN
        float lane[lanes<V>];
        std::memcpy(lane, &sum, sizeof lane);
        for (float x : lane)
            if (x != 0.0f) return false;
        return true;
    }
    void blur(int order) {
        if constexpr (D == 5) {
            if (order == kMean) std::memcpy(static_cast<void*>(spare_), current_, sizeof(V) * size_);  // the start is needed twice
            if (order != kReverse) {
                lines(0, false, current_);
                lines(1, false, current_);
            }
            if (order != kForward) {
                V* const values = order == kMean ? spare_ : current_;
                lines(1, true, values);
                lines(0, true, values);
            }
            if (order == kMean)
                for (i64 v = 0; v < lattice_.vertices_count; ++v) {
                    auto row = Row<V, NB>::load(current_ + v * NB);
                    row.mean(spare_ + v * NB);
                    row.store(current_ + v * NB);
                }
            return;
        }
        if (order == kForward || order == kThereAndBack) {
            run(false, current_, spare_, current_);
            std::swap(current_, spare_);
        }
        if (order == kReverse || order == kThereAndBack) {
            run(true, current_, spare_, current_);
            std::swap(current_, spare_);
        }
        if (order == kMean) {
            run(false, current_, spare_, extra_);
            run(true, current_, extra_, current_, spare_);
            std::swap(current_, extra_);
        }
    }
};

#if defined(__clang__)
#define WSS_SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#define WSS_SHUFFLE8(a, b, i, j, k, l, m, n, o, p) __builtin_shufflevector(a, b, i, j, k, l, m, n, o, p)
#else
#define WSS_SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, int4{i, j, k, l})
#define WSS_SHUFFLE8(a, b, i, j, k, l, m, n, o, p) __builtin_shuffle(a, b, int8{i, j, k, l, m, n, o, p})
#endif

inline void transpose(float*) {}
inline void transpose(float4* r) {
    const float4 a = WSS_SHUFFLE4(r[0], r[1], 0, 4, 1, 5), b = WSS_SHUFFLE4(r[0], r[1], 2, 6, 3, 7);
    const float4 c = WSS_SHUFFLE4(r[2], r[3], 0, 4, 1, 5), d = WSS_SHUFFLE4(r[2], r[3], 2, 6, 3, 7);
    r[0] = WSS_SHUFFLE4(a, c, 0, 1, 4, 5);
    r[1] = WSS_SHUFFLE4(a, c, 2, 3, 6, 7);
    r[2] = WSS_SHUFFLE4(b, d, 0, 1, 4, 5);
    r[3] = WSS_SHUFFLE4(b, d, 2, 3, 6, 7);
}
inline void transpose(float8* r) {  // within 128-bit halves first, then across: what AVX does in one instruction each
    float8 pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = WSS_SHUFFLE8(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pairs[i + 1] = WSS_SHUFFLE8(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            fours[i + 2 * j] = WSS_SHUFFLE8(pairs[i + j], pairs[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            fours[i + 2 * j + 1] = WSS_SHUFFLE8(pairs[i + j], pairs[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; ++i) {
        r[i] = WSS_SHUFFLE8(fours[i], fours[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = WSS_SHUFFLE8(fours[i], fours[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

// Tens of planes are more streams than processors prefetch by themselves: ask for the run below this one.
template <int kWrite>
inline void prefetch_next(const float* const* planes, i64 count, int channels, i64 next) {
    if (next + kTile > count) return;
    for (int c = 0; c < channels; ++c)
        for (int i = 0; i < kTile; i += 16) __builtin_prefetch(planes[c] + next + i, kWrite, 3);
}

// Pixels [start, start + n) of the planes -> rows of NB vectors each, the channels that are missing set to `padding`. Two vectors
// at a time of each plane: whole cache lines, and twice as fast as one.
template <class V, int NB>
inline void gather(const float* const* planes, i64 count, int channels, i64 start, int n, i64 next, V* rows, float padding) {
    constexpr int L = lanes<V>;
    if constexpr (L * NB == 1) {
        std::copy(planes[0] + start, planes[0] + start + n, rows);
        return;
    }
    prefetch_next<0>(planes, count, channels, next);
    for (int b = 0; b < NB; ++b)
        for (int g = 0; g < n; g += 2 * L) {
            const int filled[2] = {std::min(L, n - g), std::min(L, n - g - L)};
            V r[2][L];
            for (int l = 0; l < L; ++l)
                for (int h = 0; h < 2; ++h)
                    r[h][l] = b * L + l < channels ? load<V>(planes[b * L + l] + start + g + h * L, filled[h]) : broadcast<V>(padding);
            for (int h = 0; h < 2; ++h) {
                transpose(r[h]);
                for (int i = 0; i < filled[h]; ++i) rows[(g + h * L + i) * NB + b] = r[h][i];
            }
        }
}

template <class V, int NB>
inline void scatter(const V* rows, i64 count, int channels, i64 start, int n, i64 next, float* const* planes) {
    constexpr int L = lanes<V>;
    if constexpr (L * NB == 1) {
        std::copy(rows, rows + n, planes[0] + start);
        return;
    }
    prefetch_next<1>(planes, count, channels, next);
    for (int b = 0; b < NB; ++b)
        for (int g = 0; g < n; g += 2 * L) {
            const int filled[2] = {std::min(L, n - g), std::min(L, n - g - L)};
            V r[2][L];
            for (int h = 0; h < 2; ++h) {
                for (int i = 0; i < L; ++i) r[h][i] = rows[(g + h * L + i) * NB + b];  // rows has room for a whole tile
                transpose(r[h]);
            }
            for (int l = 0; l < L && b * L + l < channels; ++l)
                for (int h = 0; h < 2; ++h) store<V>(planes[b * L + l] + start + g + h * L, r[h][l], filled[h]);
        }
}

// y = factor * slice(blur(splat(x))) for up to NB * lanes channels; false if x is not finite on some pixel.
template <class V, int NB, int D>
bool filter_group(const Lattice<D>& lattice, const float* const* x, float* const* y, int channels, int order, float factor, int threads) {
    const i64 count = lattice.pixels_count, runs = i64(lattice.runs.size());
    Field<V, NB, D> field(lattice, threads, order == kMean);
    parallel(threads, [&](int part, int parts) {
        V* values = field.target(part);
        alignas(64) V rows[kTile * NB];
        for (i64 r = share(runs, part, parts), end = share(runs, part + 1, parts); r < end; ++r) {
            const auto [start, at, n] = lattice.runs[r];
            gather<V, NB>(x, count, channels, start, n, r + 1 < end ? lattice.runs[r + 1].start : count, rows, 0.0f);
            for (int i = 0; i < n; ++i) splat<V, NB, false>(lattice.pixels[at + i], rows + i * NB, values);
        }
    });
    field.turn();
    const bool finite = field.finite();
    field.blur(order);
    parallel(threads, [&](int part, int parts) {
        const V* values = field.values();
        alignas(64) V rows[kTile * NB];
        for (i64 r = share(runs, part, parts), end = share(runs, part + 1, parts); r < end; ++r) {
            const auto [start, at, n] = lattice.runs[r];
            for (int i = 0; i < n; ++i) {
                Row<V, NB> row{};
                slice<V, NB, false>(lattice.pixels[at + i], values, row);
                row.scale(factor);
                row.store(rows + i * NB);
            }
            scatter<V, NB>(rows, count, channels, start, n, r + 1 < end ? lattice.runs[r + 1].start : count, y);
        }
    });
    return finite;
}

inline bool all_zero(const float* plane, i64 count) {
    i64 p = 0;
    for (; p + 64 <= count; p += 64) {
        bool other = false;
        for (int i = 0; i < 64; ++i) other |= plane[p + i] != 0.0f;
        if (other) return false;
    }
    for (; p < count; ++p)
        if (plane[p] != 0.0f) return false;
    return true;
}

// Channels that are zero everywhere, classes that do not occur, stay so: they are not filtered.
template <int D>
bool filter(const Lattice<D>& lattice, const float* x, float* y, i64 channels, int order, float factor, int threads) {
    const i64 count = lattice.pixels_count;
    std::vector<const float*> from;
    std::vector<float*> to;
    for (i64 c = 0; c < channels; ++c) {
        if (channels > 1 && all_zero(x + c * count, count)) {
            std::memset(y + c * count, 0, sizeof(float) * count);
            continue;
        }
        from.push_back(x + c * count);
        to.push_back(y + c * count);
    }
    bool finite = true;
    for (std::size_t c = 0; c < from.size(); c += 32) {
        const int n = int(std::min<std::size_t>(32, from.size() - c));
        const auto run = n == 1    ? filter_group<float, 1, D>
                         : n <= 4  ? filter_group<float4, 1, D>
                         : n <= 8  ? filter_group<float8, 1, D>
                         : n <= 16 ? filter_group<float8, 2, D>
                         : n <= 24 ? filter_group<float8, 3, D>
                                   : filter_group<float8, 4, D>;
        finite &= run(lattice, &from[c], &to[c], n, order, factor, threads);
    }
    return finite;
}

// ----------------------------------------------------------------------------------------------------------------- mean-field

// Everything in mean-field is in units of log 2, so that softmax needs powers of 2.
constexpr float kLog2E = 1.44269504088896341f;

// Folds symmetric normalisation, the filter's factor and the kernel's weight into the barycentric weights, so that splat, blur and slice
// with them are  log2(e) weight * D^-1/2 W D^-1/2  with D = diag(W 1); and premultiplies the vertices for rows of `row_bytes`.
template <int D>
void normalise(Lattice<D>& lattice, float factor, float weight, int row_bytes, int threads) {
    const i64 count = lattice.pixels_count, runs = i64(lattice.runs.size());
    Buffer<float> mass(count);
    std::fill(mass.data(), mass.data() + count, 1.0f);
    filter<D>(lattice, mass.data(), mass.data(), 1, kForward, factor, threads);
    const float root = std::sqrt(kLog2E * factor * weight);
    parallel(threads, [&](int part, int parts) {
        for (i64 r = share(runs, part, parts), end = share(runs, part + 1, parts); r < end; ++r)
            for (int i = 0; i < lattice.runs[r].n; ++i) {
                const float s = root / std::sqrt(mass[lattice.runs[r].start + i] + 1e-20f);
                Pixel<D>& pixel = lattice.pixels[lattice.runs[r].at + i];
                for (int c = 0; c <= D; ++c) {
                    pixel.weight[c] *= s;
                    pixel.vertex[c] *= row_bytes / 8;
                }
            }
    });
}

// Sum or maximum over the lanes of each of `lanes<V>` vectors, as one vector.
template <class V>
inline V total_of_each(V* r) {
    transpose(r);
    V sum = r[0];
    for (int l = 1; l < lanes<V>; ++l) sum += r[l];
    return sum;
}

template <class V>
inline V largest_of_each(V* r) {
    transpose(r);
    V top = r[0];
    for (int l = 1; l < lanes<V>; ++l) top = larger<V>(top, r[l]);
    return top;
}

// Softmax of the n rows of a run, in base 2, and of some after them to fill a vector. One pixel's maximum, exponentials, sum and division are one long chain of dependent operations, so
// each step is done for all pixels before the next.
template <class V, int NB>
inline void softmax(V* rows, int n) {
    constexpr int L = lanes<V>;
    for (int g = 0; g < n; g += L) {
        V* group = rows + g * NB;
        V each[L];
        for (int i = 0; i < L; ++i) {
            each[i] = group[i * NB];
            for (int b = 1; b < NB; ++b) each[i] = larger<V>(each[i], group[i * NB + b]);
        }
        float scalar[L];
        const V top = largest_of_each(each);
        std::memcpy(scalar, &top, sizeof scalar);
        for (int i = 0; i < L; ++i) {
            const V shift = broadcast<V>(scalar[i]);
            V sum{};
            for (int b = 0; b < NB; ++b) sum += group[i * NB + b] = exp2_nonpositive<V>(group[i * NB + b] - shift);
            each[i] = sum;
        }
        const V scale = 1.0f / total_of_each(each);
        std::memcpy(scalar, &scale, sizeof scalar);
        for (int i = 0; i < L; ++i)
            for (int b = 0; b < NB; ++b) group[i * NB + b] *= broadcast<V>(scalar[i]);
    }
}

template <class V, int NB>
void mean_field(const Lattice<5>* colour, const Lattice<2>* position, const std::vector<Run>& runs, i64 count, const float* const* logits, float* const* probs, int classes,
                int iterations, int threads) {
    Buffer<V> unary(count * NB);
    std::unique_ptr<Field<V, NB, 5>> colour_field(colour ? new Field<V, NB, 5>(*colour, threads, false) : nullptr);
    std::unique_ptr<Field<V, NB, 2>> position_field(position ? new Field<V, NB, 2>(*position, threads, false) : nullptr);
    parallel(threads, [&](int part, int parts) {
        for (i64 r = share(runs.size(), part, parts), end = share(runs.size(), part + 1, parts); r < end; ++r) {
            const auto [start, at, n] = runs[r];
            gather<V, NB>(logits, count, classes, start, n, r + 1 < end ? runs[r + 1].start : count, unary.data() + at * NB, -1e30f);
            for (i64 i = at * NB; i < (at + n) * NB; ++i) unary[i] *= kLog2E;
        }
    });
    for (int t = 0; t <= iterations; ++t) {
        const bool first = t == 0, last = t == iterations;
        parallel(threads, [&](int part, int parts) {
            const V* colour_now = first || !colour ? nullptr : colour_field->values();
            const V* position_now = first || !position ? nullptr : position_field->values();
            V* colour_next = last || !colour ? nullptr : colour_field->target(part);
            V* position_next = last || !position ? nullptr : position_field->target(part);
            alignas(64) V rows[kTile * NB] = {};
            for (i64 r = share(runs.size(), part, parts), end = share(runs.size(), part + 1, parts); r < end; ++r) {
                const auto [start, at, n] = runs[r];
                const V* scores = unary.data() + at * NB;
                const Pixel<5>* colours = colour ? colour->pixels.data() + at : nullptr;
                const Pixel<2>* positions = position ? position->pixels.data() + at : nullptr;
                for (int i = 0; i < n; ++i) {
                    auto row = Row<V, NB>::load(scores + i * NB);
                    if (colour_now) slice<V, NB, true>(colours[i], colour_now, row);
                    if (position_now) slice<V, NB, true>(positions[i], position_now, row);
                    row.store(rows + i * NB);
                }
                softmax<V, NB>(rows, n);
                if (colour_next)
                    for (int i = 0; i < n; ++i) splat<V, NB, true>(colours[i], rows + i * NB, colour_next);
                if (position_next)
                    for (int i = 0; i < n; ++i) splat<V, NB, true>(positions[i], rows + i * NB, position_next);
                if (last) scatter<V, NB>(rows, count, classes, start, n, r + 1 < end ? runs[r + 1].start : count, probs);
            }
        });
        if (last) break;
        if (colour) {
            colour_field->turn();
            colour_field->blur(kForward);
        }
        if (position) {
            position_field->turn();
            position_field->blur(kForward);
        }
    }
}

struct MeanField {
    void (*run)(const Lattice<5>*, const Lattice<2>*, const std::vector<Run>&, i64, const float* const*, float* const*, int, int, int);
    int row_bytes;
};

template <class V, int NB>
constexpr MeanField mean_field_with() {
    return {mean_field<V, NB>, int(sizeof(V)) * NB};
}

MeanField mean_field_for(i64 classes) {
    switch (classes <= 4 ? 0 : (classes + 7) / 8) {
        case 0: return mean_field_with<float4, 1>();
        case 1: return mean_field_with<float8, 1>();
        case 2: return mean_field_with<float8, 2>();
        case 3: return mean_field_with<float8, 3>();
        case 4: return mean_field_with<float8, 4>();
        case 5: return mean_field_with<float8, 5>();
        case 6: return mean_field_with<float8, 6>();
        case 7: return mean_field_with<float8, 7>();
        case 8: return mean_field_with<float8, 8>();
        default: return classes <= 128 ? mean_field_with<float8, 16>() : mean_field_with<float8, 32>();
    }
}

// Classes that are not as good as impossible everywhere. Where the softmax of the logits is 0 in float32, no message changes that: messages
// to other classes are never negative. A few pixels decide quickly that a class is possible.
std::vector<i64> possible(const float* logits, i64 classes, i64 count) {
    constexpr float kGone = -128.0f / kLog2E;
    std::vector<std::uint8_t> gone(classes, 1);
    std::vector<float> top;
    const auto look = [&](i64 begin, i64 end, i64 step) {
        const i64 n = (end - begin + step - 1) / step;
        top.assign(n, -INFINITY);
        for (i64 k = 0; k < classes; ++k)
            for (i64 i = 0; i < n; ++i) top[i] = larger<float>(top[i], logits[k * count + begin + i * step]);
        for (i64 k = 0; k < classes; ++k) {
            bool here = false;
            for (i64 i = 0; gone[k] && i < n; ++i) here |= logits[k * count + begin + i * step] - top[i] > kGone;
            if (here) gone[k] = 0;
        }
    };
    look(0, count, std::max<i64>(1, count / 64));
    for (i64 begin = 0; begin < count && std::find(gone.begin(), gone.end(), 1) != gone.end(); begin += 1024)
        look(begin, std::min(count, begin + 1024), 1);
    std::vector<i64> kept;
    for (i64 k = 0; k < classes; ++k)
        if (!gone[k]) kept.push_back(k);
    return kept;
}

template <class F>
int guarded(F f) {  // 0 done, 1 input not finite, 2 out of memory, 3 refused
    try {
        return f();
    } catch (...) {
        return 2;
    }
}

}  // namespace

// ------------------------------------------------------------------------------------------------------------------ interface

extern "C" {

// images: (B,3,H,W) float32 for dims = 5, null for dims = 2; roi: (B,H,W) bytes or null; out: B handles.
__attribute__((visibility("default"))) int wss_lattice_build(const Geometry* geometry, const float* images, const std::uint8_t* roi, i64 batch,
                                                             i64 height, i64 width, int threads, void** out) {
    return guarded([&] {
        const i64 count = height * width;
        std::fill(out, out + batch, nullptr);
        for_each_image(batch, threads, [&](i64 b, int inner) {
            const std::uint8_t* mask = roi ? roi + b * count : nullptr;
            AnyLattice* lattice;
            if (geometry->dims == 5)
                lattice = new Lattice<5>(*geometry, images + b * 3 * count, mask, height, width, inner);
            else
                lattice = new Lattice<2>(*geometry, nullptr, mask, height, width, inner);
            out[b] = lattice;
        });
        return 0;
    });
}

__attribute__((visibility("default"))) void wss_lattice_free(void* lattice) { delete static_cast<AnyLattice*>(lattice); }

__attribute__((visibility("default"))) i64 wss_lattice_vertices(const void* lattice) {
    return static_cast<const AnyLattice*>(lattice)->vertices_count;
}

// x, y: (B,C,H,W) float32.
__attribute__((visibility("default"))) int wss_lattice_filter(void* const* lattices, i64 batch, const float* x, float* y, i64 channels, int order,
                                                              float factor, int threads) {
    return guarded([&] {
        bool finite = true;
        if (batch > 0) advise_huge_pages(y, sizeof(float) * batch * channels * static_cast<const AnyLattice*>(lattices[0])->pixels_count);
        for_each_image(batch, threads, [&](i64 b, int inner) {
            const AnyLattice* any = static_cast<const AnyLattice*>(lattices[b]);
            bool good;
            if (any->dims == 5) {
                const auto& lattice = *static_cast<const Lattice<5>*>(any);
                const i64 at = b * channels * lattice.pixels_count;
                good = filter<5>(lattice, x + at, y + at, channels, order, factor, inner);
            } else {
                const auto& lattice = *static_cast<const Lattice<2>*>(any);
                const i64 at = b * channels * lattice.pixels_count;
                good = filter<2>(lattice, x + at, y + at, channels, order, factor, inner);
            }
            if (!good) {
#ifdef _OPENMP
#pragma omp atomic write
#endif
                finite = false;
            }
        });
        return finite ? 0 : 1;
    });
}

// logits, probs: (B,K,H,W) float32. A kernel of weight 0 is left out.
__attribute__((visibility("default"))) int wss_mean_field(const Geometry* colour_geometry, float colour_factor, float colour_weight,
                                                          const Geometry* position_geometry, float position_factor, float position_weight,
                                                          const float* images, const float* logits, float* probs, i64 batch, i64 classes,
                                                          i64 height, i64 width, int iterations, int threads) {
    return guarded([&] {
        if (classes > 256) return 3;
        advise_huge_pages(probs, sizeof(float) * batch * classes * height * width);
        const i64 count = height * width;
        std::vector<std::vector<i64>> kept;
        std::size_t most = 1;
        for (i64 b = 0; b < batch; ++b) {
            kept.push_back(possible(logits + b * classes * count, classes, count));
            most = std::max(most, kept.back().size());
        }
        const MeanField method = mean_field_for(i64(most));
        const std::vector<Run> runs = runs_of(height, width);
        std::unique_ptr<Lattice<2>> position;
        if (position_weight > 0 && iterations > 0) {
            position.reset(new Lattice<2>(*position_geometry, nullptr, nullptr, height, width, threads));
            normalise<2>(*position, position_factor, position_weight, method.row_bytes, threads);
        }
        for_each_image(batch, threads, [&](i64 b, int inner) {
            std::unique_ptr<Lattice<5>> colour;
            if (colour_weight > 0 && iterations > 0) {
                colour.reset(new Lattice<5>(*colour_geometry, images + b * 3 * count, nullptr, height, width, inner));
                normalise<5>(*colour, colour_factor, colour_weight, method.row_bytes, inner);
            }
            std::vector<const float*> from;
            std::vector<float*> to;
            auto next = kept[b].begin();
            for (i64 k = 0; k < classes; ++k) {
                const i64 at = (b * classes + k) * count;
                if (next != kept[b].end() && *next == k) {
                    ++next;
                    from.push_back(logits + at);
                    to.push_back(probs + at);
                } else {
                    std::memset(probs + at, 0, sizeof(float) * count);
                }
            }
            method.run(colour.get(), position.get(), runs, count, from.data(), to.data(), int(from.size()), iterations, inner);
        });
        return 0;
    });
}

}  // extern "C"
