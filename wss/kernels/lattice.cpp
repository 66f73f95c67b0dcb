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
#if defined(__SSE__)
#include <xmmintrin.h>
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

inline float4 low(float8 v) { float4 h[2]; std::memcpy(h, &v, sizeof v); return h[0]; }
inline float4 high(float8 v) { float4 h[2]; std::memcpy(h, &v, sizeof v); return h[1]; }
inline float largest(float v) { return v; }
inline float largest(float4 v) { return std::max(std::max(v[0], v[1]), std::max(v[2], v[3])); }
inline float largest(float8 v) { const float4 a = low(v), b = high(v); return largest(float4(a > b ? a : b)); }
inline float total(float v) { return v; }
inline float total(float4 v) { return (v[0] + v[1]) + (v[2] + v[3]); }
inline float total(float8 v) { return total(low(v) + high(v)); }

// exp for x <= 0, about 2 units in the last place; exactly 0 below -87, where float32 would become denormal.
template <class V>
inline V exp_nonpositive(V x) {
    using I = typename IntOf<V>::type;
    const V floor_at = V{} - 87.0f;
    const V clamped = x < floor_at ? floor_at : x;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
    const V shifted = clamped * 1.44269504088896341f + magic;
    const V n = shifted - magic;
    const V r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    V p = V{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const I exponent = (bits<I>(shifted) - 0x4B400000 + 127) << 23;
    const V result = p * bits<V>(exponent);
    return x < floor_at ? V{} : result;
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
        data_ = static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 127) / 64 * 64));
        if (!data_) throw std::bad_alloc();
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
    explicit AnyLattice(int d) : dims(d) {}
    virtual ~AnyLattice() = default;
};

template <int D>
struct Lattice : AnyLattice {
    i64 pixels_count;
    i64 vertices_count = 1;  // with the dummy
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

    for (i64 start = begin; start < end; start += 8) {
        const int n = int(std::min<i64>(8, end - start));
        float8 feature[D];
        for (int l = 0; l < 8; ++l) {
            const i64 p = start + std::min(l, n - 1);
            const i64 y = p / width;
            feature[0][l] = float(p - y * width);
            feature[1][l] = float(y);
            for (int c = 2; c < D; ++c) feature[c][l] = image[(c - 2) * count + p];
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

        for (int l = 0; l < n; ++l) {
            Pixel<D>& pixel = out[start + l];
            if (roi && !roi[start + l]) {
                pixel = Pixel<D>{};
                continue;
            }
            float sorted[D + 1];
            i64 steps[D + 1];
            u64 key = u64(g.origin);
            for (int i = 0; i <= D; ++i) {
                sorted[rank[i][l]] = remainder[i][l];
                steps[rank[i][l]] = coordinate_step[i];
                if (i < D) key += u64(i64(base[i][l]) * g.stride[i]);
            }
            pixel.weight[0] = 1.0f + sorted[D] - sorted[0];
            for (int r = 1; r <= D; ++r) pixel.weight[r] = sorted[D - r] - sorted[D + 1 - r];

            Simplex& seen = cache[((key * 0x9E3779B97F4A7C15ull) ^ (u64(u64(order[l]) * 0x2545F491ull) << 32)) >> (64 - kCacheBits)];
            if (seen.key != key || seen.order != order[l]) {
                seen.key = key;
                seen.order = order[l];
                u64 corner = key;
                for (int r = 0; r <= D; ++r) {
                    seen.vertex[r] = vertices.insert(corner);
                    corner += u64(all - steps[D - r]);
                }
            }
            std::memcpy(pixel.vertex, seen.vertex, sizeof pixel.vertex);
        }
    }
}

template <int D>
Lattice<D>::Lattice(const Geometry& g, const float* image, const std::uint8_t* roi, i64 height, i64 width, int threads)
    : AnyLattice(D), pixels_count(height * width), pixels(height * width) {
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

// Channels of one vertex or pixel: NB vectors of type V.
template <class V, int NB, int D>
inline void splat(const Pixel<D>& pixel, const V* q, V* values) {
    for (int r = 0; r <= D; ++r) {
        V* row = values + i64(pixel.vertex[r]) * NB;
        const float w = pixel.weight[r];
        for (int b = 0; b < NB; ++b) row[b] += w * q[b];
    }
}

template <class V, int NB, int D>
inline void slice_add(const Pixel<D>& pixel, const V* values, V* q) {
    for (int r = 0; r <= D; ++r) {
        const V* row = values + i64(pixel.vertex[r]) * NB;
        const float w = pixel.weight[r];
        for (int b = 0; b < NB; ++b) q[b] += w * row[b];
    }
}

template <class V, int NB, int D>
void blur_along(const Lattice<D>& lattice, int direction, const V* in, V* out, i64 begin, i64 end, const V* mean_with = nullptr) {
    const Neighbours* links = lattice.along(direction);
    for (i64 v = begin; v < end; ++v) {
        const V *centre = in + v * NB, *before = in + i64(links[v].before) * NB, *after = in + i64(links[v].after) * NB;
        for (int b = 0; b < NB; ++b) {
            V value = centre[b] + 0.5f * (before[b] + after[b]);
            if (mean_with) value = 0.5f * (value + mean_with[v * NB + b]);
            out[v * NB + b] = value;
        }
    }
}

enum Order { kForward = 0, kReverse = 1, kMean = 2, kThereAndBack = 3 };

// Vertex values and the room to blur them. `current` receives splats and holds the result of a blur.
template <class V, int NB, int D>
class Field {
    const Lattice<D>& lattice_;
    const int threads_;
    const i64 size_;
    Buffer<V> first_, second_, third_;
    std::vector<Buffer<V>> private_;  // one per thread after the first, so that splats never collide
    V *current_, *spare_;

    void pass(int direction, const V* in, V* out, const V* mean_with = nullptr) {
        parallel(threads_, [&](int part, int parts) {
            const i64 m = lattice_.vertices_count;
            blur_along<V, NB, D>(lattice_, direction, in, out, share(m, part, parts), share(m, part + 1, parts), mean_with);
        });
    }
    void run(bool reverse) {
        for (int j = 0; j <= D; ++j) {
            pass(reverse ? D - j : j, current_, spare_);
            std::swap(current_, spare_);
        }
    }

  public:
    Field(const Lattice<D>& lattice, int threads, bool three)
        : lattice_(lattice), threads_(threads), size_(lattice.vertices_count * NB), first_(size_), second_(size_), third_(three ? size_ : 0) {
        for (int t = 1; t < threads; ++t) private_.emplace_back(size_);
        current_ = first_.data();
        spare_ = second_.data();
    }
    const V* values() const { return current_; }
    // The result stays readable while the next splat goes to the spare side; `turn` then makes that the current one.
    V* target(int part) { return part == 0 ? spare_ : private_[part - 1].data(); }
    void clear() {
        parallel(threads_, [&](int part, int) { std::memset(static_cast<void*>(target(part)), 0, sizeof(V) * size_); });
    }
    void turn() {
        std::swap(current_, spare_);
        if (threads_ == 1) return;
        parallel(threads_, [&](int part, int parts) {
            for (const Buffer<V>& other : private_)
                for (i64 i = share(size_, part, parts), end = share(size_, part + 1, parts); i < end; ++i) current_[i] += other[i];
        });
    }
    bool finite() const {
        V sum{};
        for (i64 i = 0; i < size_; ++i) sum += current_[i] * 0.0f;
        return total(sum) == 0.0f;
    }
    void blur(int order) {
        if (order == kForward || order == kThereAndBack) run(false);
        if (order == kReverse || order == kThereAndBack) run(true);
        if (order != kMean) return;
        V* const start = current_;
        V* const other = spare_;
        V* const extra = third_.data();
        // Forward, keeping the start: start -> other -> extra -> other ...
        V *in = start, *out = other;
        for (int j = 0; j <= D; ++j) {
            pass(j, in, out);
            in = out;
            out = in == other ? extra : other;
        }
        V* const forward = in;
        out = forward == other ? extra : other;
        in = start;
        for (int j = D; j > 0; --j) {  // backward: start may now be overwritten
            pass(j, in, out);
            in = out;
            out = in == start ? (forward == other ? extra : other) : start;
        }
        pass(0, in, out, forward);
        if (out == extra) {
            std::memcpy(static_cast<void*>(start), extra, sizeof(V) * size_);
            out = start;
        }
        current_ = out;
        spare_ = out == start ? other : start;
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

// Pixels [start, start + n) of `channels` planes -> rows of NB vectors each, the channels that are missing set to `padding`.
template <class V, int NB>
inline void gather(const float* planes, i64 count, int channels, i64 start, int n, V* rows, float padding) {
    constexpr int L = lanes<V>;
    for (int g = 0; g < n; g += L) {
        const int filled = std::min(L, n - g);
        for (int b = 0; b < NB; ++b) {
            V r[L];
            for (int l = 0; l < L; ++l) {
                const int c = b * L + l;
                r[l] = V{} + padding;
                if (c < channels) std::memcpy(&r[l], planes + c * count + start + g, sizeof(float) * (filled == L ? L : filled));
            }
            transpose(r);
            for (int i = 0; i < filled; ++i) rows[(g + i) * NB + b] = r[i];
        }
    }
}

template <class V, int NB>
inline void scatter(const V* rows, i64 count, int channels, i64 start, int n, float* planes) {
    constexpr int L = lanes<V>;
    for (int g = 0; g < n; g += L) {
        const int filled = std::min(L, n - g);
        for (int b = 0; b < NB; ++b) {
            V r[L] = {};
            for (int i = 0; i < filled; ++i) r[i] = rows[(g + i) * NB + b];
            transpose(r);
            for (int l = 0; l < L && b * L + l < channels; ++l)
                std::memcpy(planes + (b * L + l) * count + start + g, &r[l], sizeof(float) * (filled == L ? L : filled));
        }
    }
}

// y = factor * slice(blur(splat(x))) for up to NB * lanes channels; false if x is not finite on some pixel.
template <class V, int NB, int D>
bool filter_group(const Lattice<D>& lattice, const float* x, float* y, int channels, int order, float factor, int threads) {
    const i64 count = lattice.pixels_count;
    Field<V, NB, D> field(lattice, threads, order == kMean);
    field.clear();
    parallel(threads, [&](int part, int parts) {
        V* values = field.target(part);
        alignas(64) V rows[kTile * NB];
        const i64 end = share(count, part + 1, parts);
        for (i64 start = share(count, part, parts); start < end; start += kTile) {
            const int n = int(std::min<i64>(kTile, end - start));
            gather<V, NB>(x, count, channels, start, n, rows, 0.0f);
            for (int i = 0; i < n; ++i) splat<V, NB, D>(lattice.pixels[start + i], rows + i * NB, values);
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
                slice_add<V, NB, D>(lattice.pixels[start + i], values, q);
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

// Folds symmetric normalisation, the filter's factor and the kernel's weight into the barycentric weights, so that splat, blur and slice
// with them are  weight * D^-1/2 W D^-1/2  with D = diag(W 1).
template <int D>
void normalise(Lattice<D>& lattice, float factor, float weight, int threads) {
    const i64 count = lattice.pixels_count;
    Buffer<float> mass(count);
    std::fill(mass.data(), mass.data() + count, 1.0f);
    filter<D>(lattice, mass.data(), mass.data(), 1, kForward, factor, threads);
    const float root = std::sqrt(factor * weight);
    parallel(threads, [&](int part, int parts) {
        for (i64 p = share(count, part, parts), end = share(count, part + 1, parts); p < end; ++p) {
            const float s = root / std::sqrt(mass[p] + 1e-20f);
            for (float& w : lattice.pixels[p].weight) w *= s;
        }
    });
}

template <class V, int NB>
inline void softmax(V* q) {
    V top = q[0];
    for (int b = 1; b < NB; ++b) top = top > q[b] ? top : q[b];
    const float m = largest(top);
    V sum{};
    for (int b = 0; b < NB; ++b) {
        q[b] = exp_nonpositive<V>(q[b] - m);
        sum += q[b];
    }
    const float scale = 1.0f / total(sum);
    for (int b = 0; b < NB; ++b) q[b] *= scale;
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
            gather<V, NB>(logits, count, classes, start, int(std::min<i64>(kTile, end - start)),
                          unary.data() + start * NB, -1e30f);
    });
    for (int t = 0; t <= iterations; ++t) {
        const bool last = t == iterations;
        if (!last && colour) colour_field->clear();
        if (!last && position) position_field->clear();
        parallel(threads, [&](int part, int parts) {
            V* colour_next = colour ? colour_field->target(part) : nullptr;
            V* position_next = position ? position_field->target(part) : nullptr;
            alignas(64) V rows[kTile * NB];
            const i64 end = share(count, part + 1, parts);
            for (i64 start = share(count, part, parts); start < end; start += kTile) {
                const int n = int(std::min<i64>(kTile, end - start));
                for (int i = 0; i < n; ++i) {
                    const i64 p = start + i;
                    V q[NB];
                    for (int b = 0; b < NB; ++b) q[b] = unary[p * NB + b];
                    if (t > 0 && colour) slice_add<V, NB, 5>(colour->pixels[p], colour_field->values(), q);
                    if (t > 0 && position) slice_add<V, NB, 2>(position->pixels[p], position_field->values(), q);
                    softmax<V, NB>(q);
                    if (!last && colour) splat<V, NB, 5>(colour->pixels[p], q, colour_next);
                    if (!last && position) splat<V, NB, 2>(position->pixels[p], q, position_next);
                    if (last)
                        for (int b = 0; b < NB; ++b) rows[i * NB + b] = q[b];
                }
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

using MeanField = void (*)(const Lattice<5>*, const Lattice<2>*, i64, const float*, float*, int, int, int);

MeanField mean_field_for(i64 classes) {
    switch (classes <= 4 ? 0 : (classes + 7) / 8) {
        case 0: return mean_field<float4, 1>;
        case 1: return mean_field<float8, 1>;
        case 2: return mean_field<float8, 2>;
        case 3: return mean_field<float8, 3>;
        case 4: return mean_field<float8, 4>;
        case 5: return mean_field<float8, 5>;
        case 6: return mean_field<float8, 6>;
        case 7: return mean_field<float8, 7>;
        case 8: return mean_field<float8, 8>;
        default: break;
    }
    return classes <= 128 ? mean_field<float8, 16> : classes <= 256 ? mean_field<float8, 32> : nullptr;
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
    const AnyLattice* any = static_cast<const AnyLattice*>(lattice);
    return any->dims == 5 ? static_cast<const Lattice<5>*>(any)->vertices_count : static_cast<const Lattice<2>*>(any)->vertices_count;
}

// x, y: (B,C,H,W) float32.
__attribute__((visibility("default"))) int wss_lattice_filter(void* const* lattices, i64 batch, const float* x, float* y, i64 channels, int order,
                                                              float factor, int threads) {
    return guarded([&] {
        bool finite = true;
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
        const MeanField run = mean_field_for(classes);
        if (!run) return 3;
        const i64 count = height * width;
        std::unique_ptr<Lattice<2>> position;
        if (position_weight > 0 && iterations > 0) {
            position.reset(new Lattice<2>(*position_geometry, nullptr, nullptr, height, width, threads));
            normalise<2>(*position, position_factor, position_weight, threads);
        }
        for_each_image(batch, threads, [&](i64 b, int inner) {
            std::unique_ptr<Lattice<5>> colour;
            if (colour_weight > 0 && iterations > 0) {
                colour.reset(new Lattice<5>(*colour_geometry, images + b * 3 * count, nullptr, height, width, inner));
                normalise<5>(*colour, colour_factor, colour_weight, inner);
            }
            const i64 at = b * classes * count;
            run(colour.get(), position.get(), count, logits + at, probs + at, int(classes), iterations, inner);
        });
        return 0;
    });
}

}  // extern "C"
