// Gaussian filtering in d dimensions on the permutohedral lattice, and DenseCRF mean-field built on it.
//
// The meaning is defined by wss/ops/lattice.py; this file is its fast twin on the CPU, reached through a plain C interface (ctypes).
// A lattice is built once per image: each pixel lies in one simplex and keeps its d + 1 vertices and barycentric weights; each vertex
// knows its two neighbours along the d + 1 lattice directions. A filter is then splat (pixels to vertices), blur (along each direction
// in turn) and slice (back to pixels). All K channels of a vertex lie side by side, so that every step works on whole vectors.
//
// Vertex 0 is a dummy whose values stay zero: absent neighbours and pixels outside the region of interest (weight 0) point at it.
// Vectors are GCC's portable vector types: compiled for a plain x86-64 or ARM they become 128-bit operations, with -mavx2 256-bit ones.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
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
typedef i32 int4 __attribute__((vector_size(16)));
typedef i32 int8 __attribute__((vector_size(32)));

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
template <class V> constexpr int lanes = int(sizeof(V) / sizeof(float));

template <class V> inline V broadcast(float x);
template <> inline float broadcast<float>(float x) { return x; }
template <> inline float4 broadcast<float4>(float x) { return float4{x, x, x, x}; }
template <> inline float8 broadcast<float8>(float x) { return float8{x, x, x, x, x, x, x, x}; }

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
    Buffer(Buffer&& o) noexcept : data_(o.data_), size_(o.size_) { o.data_ = nullptr; o.size_ = 0; }
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

// How positions become keys; worked out once in Python so that both implementations agree. A key is origin + sum_i coordinate_i *
// stride_i, wide enough for every coordinate that can occur: a step in the lattice is the addition of a constant.
struct Geometry {
    i32 dims;
    i32 ring;
    float scale[5];
    i64 stride[5];
    i64 origin;
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

struct AnyLattice {
    const int dims;
    const i64 pixels_count;
    i64 vertices_count = 1;  // with the dummy
    AnyLattice(int d, i64 n) : dims(d), pixels_count(n) {}
    virtual ~AnyLattice() = default;
};

template <int D>
struct Lattice : AnyLattice {
    Buffer<Pixel<D>> pixels;
    Buffer<Neighbours> neighbours;  // [direction][vertex]

    Lattice(const Geometry& g, const float* image, const std::uint8_t* roi, i64 height, i64 width, int threads);
    const Neighbours* along(int direction) const { return neighbours.data() + direction * vertices_count; }
};

template <int D>
u64 step_along(const Geometry& g, int direction) {  // +1 in every coordinate, -d in the one named; coordinate d is implied
    i64 step = 0;
    for (int i = 0; i < D; ++i) step += g.stride[i];
    if (direction < D) step -= (D + 1) * g.stride[direction];
    return u64(step);
}

// Places pixels [begin, end): see Adams, Baek and Davis 2010, section 3.1. Eight pixels at a time until the look-up of their vertices.
template <int D>
void place(const Geometry& g, const float* image, const std::uint8_t* roi, i64 width, i64 count, i64 begin, i64 end, Vertices& vertices,
           Pixel<D>* out) {
    struct Simplex {
        u64 key = kEmpty;
        i32 order = 0;
        i32 vertex[D + 1] = {};
    };
    constexpr int kCacheBits = 11;
    std::vector<Simplex> cache(std::size_t(1) << kCacheBits);

    i64 coordinate_step[D + 1] = {};
    for (int i = 0; i < D; ++i) coordinate_step[i] = (D + 1) * g.stride[i];
    const i64 all = i64(step_along<D>(g, D));

    i64 y = begin / width, x = begin % width;
    for (i64 start = begin; start < end; start += 8) {
        const int n = int(std::min<i64>(8, end - start));
        float8 feature[D];
        for (int c = 2; c < D; ++c) feature[c] = load<float8>(image + (c - 2) * count + start, n);
        feature[0] = broadcast<float8>(float(x)) + float8{0, 1, 2, 3, 4, 5, 6, 7};
        feature[1] = broadcast<float8>(float(y));
        if ((x += 8) >= width) {  // the row ends among these eight
            x -= 8;
            for (int l = 0; l < 8; ++l) {
                feature[0][l] = float(x);
                feature[1][l] = float(y);
                if (++x == width) x = 0, ++y;
            }
        }
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
            base[i] = __builtin_convertvector(rounded, int8) * (D + 1);
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
            const int8 move = ((rank[i] < 0) & (D + 1)) - ((rank[i] > D) & (D + 1));
            rank[i] += move;
            base[i] += move;
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
            Pixel<D>& pixel = out[start + l];
            if (roi && !roi[start + l]) {
                pixel = Pixel<D>{};
                continue;
            }
            u64 key = u64(g.origin);
            for (int i = 0; i < D; ++i) key += u64(i64(base[i][l]) * g.stride[i]);
            Simplex& seen = cache[((key ^ (u64(order[l]) << 40)) * 0x9E3779B97F4A7C15ull) >> (64 - kCacheBits)];
            if (seen.key != key || seen.order != order[l]) {
                seen.key = key;
                seen.order = order[l];
                i64 steps[D + 1];
                for (int i = 0; i <= D; ++i) steps[rank[i][l]] = coordinate_step[i];
                u64 corner = key;
                for (int r = 0; r <= D; ++r) {
                    seen.vertex[r] = vertices.insert(corner);
                    corner += u64(all - steps[D - r]);
                }
            }
            for (int r = 0; r <= D; ++r) {
                pixel.vertex[r] = seen.vertex[r];
                pixel.weight[r] = weight[r][l];
            }
        }
    }
}

template <int D>
Lattice<D>::Lattice(const Geometry& g, const float* image, const std::uint8_t* roi, i64 height, i64 width, int threads)
    : AnyLattice(D, height * width), pixels(height * width) {
    const i64 count = pixels_count;
    std::vector<Vertices> found(threads);
    parallel(threads, [&](int part, int parts) {
        place<D>(g, image, roi, width, count, share(count, part, parts), share(count, part + 1, parts), found[part], pixels.data());
    });
    Vertices& all = found[0];
    std::vector<std::vector<i32>> renamed(threads);
    for (int t = 1; t < threads; ++t) {
        renamed[t].reserve(found[t].keys.size());
        renamed[t].push_back(0);
        for (std::size_t id = 1; id < found[t].keys.size(); ++id) renamed[t].push_back(all.insert(found[t].keys[id]));
    }
    parallel(threads, [&](int part, int parts) {
        if (part == 0) return;
        for (i64 p = share(count, part, parts), end = share(count, part + 1, parts); p < end; ++p)
            for (i32& v : pixels[p].vertex) v = renamed[part][v];
    });
    if (g.ring) {
        const std::size_t touched = all.keys.size();
        for (std::size_t id = 1; id < touched; ++id)
            for (int j = 0; j <= D; ++j) {
                const u64 step = step_along<D>(g, j);
                all.insert(all.keys[id] + step);
                all.insert(all.keys[id] - step);
            }
    }
    vertices_count = i64(all.keys.size());
    neighbours.resize(vertices_count * (D + 1));
    parallel(threads, [&](int part, int parts) {  // each direction is one thread's: a link is written at both of its ends
        for (int j = part; j <= D; j += parts) {
            Neighbours* links = neighbours.data() + j * vertices_count;
            std::memset(links, 0, sizeof(Neighbours) * vertices_count);
            const u64 step = step_along<D>(g, j);
            for (i64 v = 1; v < vertices_count; ++v) {
                const i32 u = all.find(all.keys[v] + step);
                links[v].after = u;
                links[u].before = i32(v);
            }
            links[0] = Neighbours{0, 0};
        }
    });
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
    V channel[NB];
    for (int b = 0; b < NB; ++b) channel[b] = q[b];
    for (int r = 0; r <= D; ++r) {
        V* row = row_of<V, NB, kPremultiplied>(values, pixel.vertex[r]);
        const V w = broadcast<V>(pixel.weight[r]);
        for (int b = 0; b < NB; ++b) row[b] += w * channel[b];
    }
}

// to = from + the value interpolated at the pixel.
template <class V, int NB, bool kPremultiplied, int D>
inline void slice_add(const Pixel<D>& pixel, const V* values, const V* from, V* to) {
    V channel[NB];
    for (int b = 0; b < NB; ++b) channel[b] = from[b];
    for (int r = 0; r <= D; ++r) {
        const V* row = row_of<V, NB, kPremultiplied>(const_cast<V*>(values), pixel.vertex[r]);
        const V w = broadcast<V>(pixel.weight[r]);
        for (int b = 0; b < NB; ++b) channel[b] += w * row[b];
    }
    for (int b = 0; b < NB; ++b) to[b] = channel[b];
}

// out = blur of `in` with (1/2, 1, 1/2) along one direction; with `mean_with`, the mean of both.
template <class V, int NB, int D>
void blur_along(const Lattice<D>& lattice, int direction, const V* in, V* out, i64 begin, i64 end, const V* mean_with) {
    const Neighbours* links = lattice.along(direction);
    constexpr i64 kAhead = 12;  // neighbours lie anywhere: on fine lattices waiting for them is what takes the time
    for (i64 v = begin; v < end; ++v) {
        const Neighbours later = links[std::min(v + kAhead, end - 1)];
        __builtin_prefetch(in + i64(later.before) * NB);
        __builtin_prefetch(in + i64(later.before) * NB + NB - 1);
        __builtin_prefetch(in + i64(later.after) * NB);
        __builtin_prefetch(in + i64(later.after) * NB + NB - 1);
        const V *centre = in + v * NB, *before = in + i64(links[v].before) * NB, *after = in + i64(links[v].after) * NB;
        V sum[NB];
        for (int b = 0; b < NB; ++b) sum[b] = centre[b] + 0.5f * (before[b] + after[b]);
        if (mean_with)
            for (int b = 0; b < NB; ++b) sum[b] = 0.5f * (sum[b] + mean_with[v * NB + b]);
        for (int b = 0; b < NB; ++b) out[v * NB + b] = sum[b];
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
    V *current_, *spare_;

    // Blurs along all directions in turn, `from` -> `to` -> `other` -> `to` ..., and returns where the result is.
    V* run(bool reverse, const V* from, V* to, V* other, const V* mean_with = nullptr) {
        for (int j = 0; j <= D; ++j) {
            parallel(threads_, [&](int part, int parts) {
                const i64 m = lattice_.vertices_count;
                blur_along<V, NB, D>(lattice_, reverse ? D - j : j, from, to, share(m, part, parts), share(m, part + 1, parts),
                                     j == D ? mean_with : nullptr);
            });
            from = to;
            std::swap(to, other);
        }
        return other;
    }
    void settle(V* result) {
        if (result != current_) std::swap(current_, spare_);
    }

  public:
    Field(const Lattice<D>& lattice, int threads, bool three)
        : lattice_(lattice),
          size_(lattice.vertices_count * NB),
          threads_(sizeof(V) * size_ > kWorthSharing ? threads : 1),
          first_(size_),
          second_(size_),
          third_(three ? size_ : 0) {
        for (int t = 1; t < threads; ++t) private_.emplace_back(size_);
        current_ = first_.data();
        spare_ = second_.data();
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
        if (order == kForward || order == kThereAndBack) settle(run(false, current_, spare_, current_));
        if (order == kReverse || order == kThereAndBack) settle(run(true, current_, spare_, current_));
        if (order == kMean) {  // the start is needed twice: keep it in the first run
            V* const forward = run(false, current_, spare_, third_.data());
            V* const free = forward == spare_ ? third_.data() : spare_;
            V* const mean = run(true, current_, free, current_, forward);
            if (mean == third_.data()) std::memcpy(static_cast<void*>(spare_), mean, sizeof(V) * size_);
            if (mean != current_) std::swap(current_, spare_);
        }
    }
};

constexpr int kTile = 32;  // pixels turned from planes to rows of channels at a time

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

// Tens of planes are more streams than processors prefetch by themselves: ask for the tile after this one.
template <int kWrite>
inline void prefetch_next(const float* planes, i64 count, int channels, i64 start) {
    const i64 next = start + kTile;
    if (next + kTile > count) return;
    for (int c = 0; c < channels; ++c)
        for (int i = 0; i < kTile; i += 16) __builtin_prefetch(planes + c * count + next + i, kWrite, 3);
}

// Pixels [start, start + n) of `channels` planes -> rows of NB vectors each, the channels that are missing set to `padding`. Two vectors
// at a time of each plane: whole cache lines, and twice as fast as one.
template <class V, int NB>
inline void gather(const float* planes, i64 count, int channels, i64 start, int n, V* rows, float padding) {
    constexpr int L = lanes<V>;
    if constexpr (L * NB == 1) {
        std::copy(planes + start, planes + start + n, rows);
        return;
    }
    prefetch_next<0>(planes, count, channels, start);
    for (int b = 0; b < NB; ++b)
        for (int g = 0; g < n; g += 2 * L) {
            const int filled[2] = {std::min(L, n - g), std::min(L, n - g - L)};
            const float* from = planes + b * L * count + start + g;
            V r[2][L];
            for (int l = 0; l < L; ++l)
                for (int h = 0; h < 2; ++h)
                    r[h][l] = b * L + l < channels ? load<V>(from + l * count + h * L, filled[h]) : broadcast<V>(padding);
            for (int h = 0; h < 2; ++h) {
                transpose(r[h]);
                for (int i = 0; i < filled[h]; ++i) rows[(g + h * L + i) * NB + b] = r[h][i];
            }
        }
}

template <class V, int NB>
inline void scatter(const V* rows, i64 count, int channels, i64 start, int n, float* planes) {
    constexpr int L = lanes<V>;
    if constexpr (L * NB == 1) {
        std::copy(rows, rows + n, planes + start);
        return;
    }
    prefetch_next<1>(planes, count, channels, start);
    for (int b = 0; b < NB; ++b)
        for (int g = 0; g < n; g += 2 * L) {
            const int filled[2] = {std::min(L, n - g), std::min(L, n - g - L)};
            float* to = planes + b * L * count + start + g;
            V r[2][L];
            for (int h = 0; h < 2; ++h) {
                for (int i = 0; i < L; ++i) r[h][i] = rows[(g + h * L + i) * NB + b];  // rows has room for a whole tile
                transpose(r[h]);
            }
            for (int l = 0; l < L && b * L + l < channels; ++l)
                for (int h = 0; h < 2; ++h) store<V>(to + l * count + h * L, r[h][l], filled[h]);
        }
}

// y = factor * slice(blur(splat(x))) for up to NB * lanes channels; false if x is not finite on some pixel.
template <class V, int NB, int D>
bool filter_group(const Lattice<D>& lattice, const float* x, float* y, int channels, int order, float factor, int threads) {
    const i64 count = lattice.pixels_count;
    Field<V, NB, D> field(lattice, threads, order == kMean);
    parallel(threads, [&](int part, int parts) {
        V* values = field.target(part);
        alignas(64) V rows[kTile * NB];
        const i64 end = share(count, part + 1, parts);
        for (i64 start = share(count, part, parts); start < end; start += kTile) {
            const int n = int(std::min<i64>(kTile, end - start));
            gather<V, NB>(x, count, channels, start, n, rows, 0.0f);
            for (int i = 0; i < n; ++i) splat<V, NB, false>(lattice.pixels[start + i], rows + i * NB, values);
        }
    });
    field.turn();
    const bool finite = field.finite();
    field.blur(order);
    parallel(threads, [&](int part, int parts) {
        const V* values = field.values();
        alignas(64) V rows[kTile * NB];
        const i64 end = share(count, part + 1, parts);
        for (i64 start = share(count, part, parts); start < end; start += kTile) {
            const int n = int(std::min<i64>(kTile, end - start));
            for (int i = 0; i < n; ++i) {
                V q[NB] = {};
                slice_add<V, NB, false>(lattice.pixels[start + i], values, q, q);
                for (int b = 0; b < NB; ++b) rows[i * NB + b] = factor * q[b];
            }
            scatter<V, NB>(rows, count, channels, start, n, y);
        }
    });
    return finite;
}

template <int D>
bool filter(const Lattice<D>& lattice, const float* x, float* y, i64 channels, int order, float factor, int threads) {
    bool finite = true;
    for (i64 c = 0; c < channels; c += 32) {
        const int n = int(std::min<i64>(32, channels - c));
        const float* from = x + c * lattice.pixels_count;
        float* to = y + c * lattice.pixels_count;
        const auto run = n == 1    ? filter_group<float, 1, D>
                         : n <= 4  ? filter_group<float4, 1, D>
                         : n <= 8  ? filter_group<float8, 1, D>
                         : n <= 16 ? filter_group<float8, 2, D>
                         : n <= 24 ? filter_group<float8, 3, D>
                                   : filter_group<float8, 4, D>;
        finite &= run(lattice, from, to, n, order, factor, threads);
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
    const i64 count = lattice.pixels_count;
    Buffer<float> mass(count);
    std::fill(mass.data(), mass.data() + count, 1.0f);
    filter<D>(lattice, mass.data(), mass.data(), 1, kForward, factor, threads);
    const float root = std::sqrt(kLog2E * factor * weight);
    parallel(threads, [&](int part, int parts) {
        for (i64 p = share(count, part, parts), end = share(count, part + 1, parts); p < end; ++p) {
            const float s = root / std::sqrt(mass[p] + 1e-20f);
            for (int r = 0; r <= D; ++r) {
                lattice.pixels[p].weight[r] *= s;
                lattice.pixels[p].vertex[r] *= row_bytes / 8;
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

// Softmax of a whole tile of rows, in base 2. One pixel's maximum, exponentials, sum and division are one long chain of dependent operations, so
// each step is done for all pixels before the next.
template <class V, int NB>
inline void softmax(V* rows) {
    constexpr int L = lanes<V>;
    for (int g = 0; g < kTile; g += L) {
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
void mean_field(const Lattice<5>* colour, const Lattice<2>* position, i64 count, const float* logits, float* probs, int classes,
                int iterations, int threads) {
    Buffer<V> unary(count * NB);
    std::unique_ptr<Field<V, NB, 5>> colour_field(colour ? new Field<V, NB, 5>(*colour, threads, false) : nullptr);
    std::unique_ptr<Field<V, NB, 2>> position_field(position ? new Field<V, NB, 2>(*position, threads, false) : nullptr);
    parallel(threads, [&](int part, int parts) {
        const i64 end = share(count, part + 1, parts);
        for (i64 start = share(count, part, parts); start < end; start += kTile)
            gather<V, NB>(logits, count, classes, start, int(std::min<i64>(kTile, end - start)), unary.data() + start * NB, -1e30f);
        for (i64 i = share(count, part, parts) * NB; i < end * NB; ++i) unary[i] *= kLog2E;
    });
    for (int t = 0; t <= iterations; ++t) {
        const bool first = t == 0, last = t == iterations;
        parallel(threads, [&](int part, int parts) {
            const V* colour_now = first || !colour ? nullptr : colour_field->values();
            const V* position_now = first || !position ? nullptr : position_field->values();
            V* colour_next = last || !colour ? nullptr : colour_field->target(part);
            V* position_next = last || !position ? nullptr : position_field->target(part);
            alignas(64) V rows[kTile * NB] = {};
            const i64 end = share(count, part + 1, parts);
            for (i64 start = share(count, part, parts); start < end; start += kTile) {
                const int n = int(std::min<i64>(kTile, end - start));
                const V* scores = unary.data() + start * NB;
                const Pixel<5>* colours = colour ? colour->pixels.data() + start : nullptr;
                const Pixel<2>* positions = position ? position->pixels.data() + start : nullptr;
                if (colour_now) {
                    for (int i = 0; i < n; ++i) slice_add<V, NB, true>(colours[i], colour_now, scores + i * NB, rows + i * NB);
                    scores = rows;
                }
                if (position_now) {
                    for (int i = 0; i < n; ++i) slice_add<V, NB, true>(positions[i], position_now, scores + i * NB, rows + i * NB);
                    scores = rows;
                }
                if (scores != rows) std::copy(scores, scores + n * NB, rows);
                softmax<V, NB>(rows);
                if (colour_next)
                    for (int i = 0; i < n; ++i) splat<V, NB, true>(colours[i], rows + i * NB, colour_next);
                if (position_next)
                    for (int i = 0; i < n; ++i) splat<V, NB, true>(positions[i], rows + i * NB, position_next);
                if (last) scatter<V, NB>(rows, count, classes, start, n, probs);
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
    void (*run)(const Lattice<5>*, const Lattice<2>*, i64, const float*, float*, int, int, int);
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
        const MeanField method = mean_field_for(classes);
        advise_huge_pages(probs, sizeof(float) * batch * classes * height * width);
        const i64 count = height * width;
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
            const i64 at = b * classes * count;
            method.run(colour.get(), position.get(), count, logits + at, probs + at, int(classes), iterations, inner);
        });
        return 0;
    });
}

}  // extern "C"
