// The best assignment of rows to columns while rows come and go: the most pairs, and of those the cheapest.
//
// The meaning is defined by wss/metrics/assignment.py; this file is its fast twin, reached through a plain C interface (ctypes). Both
// look at pairs in the same order and break ties alike, so that their results are equal. Labels of a search are valid where their
// mark is that of the search, so that nothing is cleared between searches.

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using i32 = std::int32_t;
using i64 = std::int64_t;
using u8 = std::uint8_t;

constexpr int status_ok = 0, status_memory = 2;

struct Pair {
    i32 other;
    i64 cost;
};

// Pairs of each row or column.
struct Lists {
    std::vector<i64> begin;
    std::vector<Pair> pairs;
};

// Shortest distances of one search at a time, over rows or columns.
class Search {
  public:
    explicit Search(i64 count) : mark(count, 0), distance(count), before(count) {}

    void start() {
        ++current;
        heap.clear();
    }
    void offer(i32 node, i64 length, i64 limit, i32 from, i64 cost) {
        if (length >= (mark[node] == current ? distance[node] : limit)) return;
        mark[node] = current;
        distance[node] = length;
        before[node] = {from, cost};
        heap.emplace_back(length, node);
        std::push_heap(heap.begin(), heap.end(), later);
    }
    // The nearest node below the limit, taken out, or -1.
    i32 next(i64 limit) {
        while (!heap.empty()) {
            const Entry top = heap.front();
            const bool stale = top.first > distance[top.second];
            if (!stale && top.first >= limit) return -1;
            std::pop_heap(heap.begin(), heap.end(), later);
            heap.pop_back();
            if (!stale) return top.second;
        }
        return -1;
    }

  private:
    using Entry = std::pair<i64, i32>;
    static bool later(const Entry& a, const Entry& b) { return a > b; }
    std::vector<i64> mark;
    i64 current = 0;
    std::vector<Entry> heap;

  public:
    std::vector<i64> distance;
    std::vector<Pair> before;
};

class Assignment {
  public:
    Assignment(const i64* begin, const i32* partners, const i64* costs, i64 rows, i64 columns, i64 outside)
        : outside(outside), price(columns, 0), owner(columns, -1), column_of(rows, -1), paid(rows, 0), present(rows, 0),
          over_rows(rows), over_columns(columns) {
        of_row.begin.assign(begin, begin + rows + 1);
        of_column.begin.assign(columns + 1, 0);
        of_row.pairs.resize(begin[rows]);
        of_column.pairs.resize(begin[rows]);
        for (i64 i = 0; i < begin[rows]; ++i) {
            of_row.pairs[i] = {partners[i], costs[i]};
            ++of_column.begin[partners[i] + 1];
        }
        for (i64 c = 0; c < columns; ++c) of_column.begin[c + 1] += of_column.begin[c];
        std::vector<i64> next(of_column.begin.begin(), of_column.begin.end());
        for (i64 r = 0; r < rows; ++r)
            for (i64 i = begin[r]; i < begin[r + 1]; ++i) of_column.pairs[next[partners[i]]++] = {i32(r), costs[i]};
    }

    void add(i32 added) {
        present[added] = 1;
        over_columns.start();
        scanned.clear();
        i32 row = added, leaving = added, end = -1;
        i64 start = 0, shortest = outside;
        while (true) {
            for (i64 i = of_row.begin[row]; i < of_row.begin[row + 1]; ++i) {
                const Pair& pair = of_row.pairs[i];
                over_columns.offer(pair.other, start + pair.cost - price[pair.other], shortest, row, pair.cost);
            }
            const i32 column = over_columns.next(shortest);
            if (column < 0) break;
            const i64 length = over_columns.distance[column];
            row = owner[column];
            if (row < 0) {
                end = column;
                shortest = length;
                break;
            }
            scanned.emplace_back(column, length);
            start = length - paid[row] + price[column];
            if (start + outside < shortest) {
                leaving = row;
                shortest = start + outside;
            }
        }
        for (const auto& [column, length] : scanned) price[column] += length - shortest;
        if (end < 0) {
            end = column_of[leaving];
            column_of[leaving] = -1;
        }
        while (end >= 0) {
            const Pair pair = over_columns.before[end];
            owner[end] = pair.other;
            paid[pair.other] = pair.cost;
            std::swap(end, column_of[pair.other]);
        }
    }

    void remove(i32 removed) {
        const i32 first = column_of[removed];
        present[removed] = 0;
        column_of[removed] = -1;
        if (first < 0) return;
        owner[first] = -1;
        over_rows.start();
        scanned.assign(1, {first, 0});
        i32 column = first, leaving = first, end = -1;
        i64 start = 0, shortest = -price[first];
        while (true) {
            for (i64 i = of_column.begin[column]; i < of_column.begin[column + 1]; ++i) {
                const Pair& pair = of_column.pairs[i];
                if (!present[pair.other]) continue;
                const i32 own = column_of[pair.other];
                const i64 dual = own < 0 ? outside : paid[pair.other] - price[own];
                over_rows.offer(pair.other, start + pair.cost - price[column] - dual, shortest, column, pair.cost);
            }
            const i32 row = over_rows.next(shortest);
            if (row < 0) break;
            start = over_rows.distance[row];
            column = column_of[row];
            if (column < 0) {
                end = row;
                shortest = start;
                break;
            }
            scanned.emplace_back(column, start);
            if (start - price[column] < shortest) {
                leaving = column;
                shortest = start - price[column];
            }
        }
        for (const auto& [scanned_column, length] : scanned) price[scanned_column] += shortest - length;
        if (end < 0) {
            end = owner[leaving];
            owner[leaving] = -1;
        }
        while (end >= 0) {
            const Pair pair = over_rows.before[end];
            column_of[end] = pair.other;
            paid[end] = pair.cost;
            std::swap(end, owner[pair.other]);
        }
    }

    bool matched(i64 row) const { return column_of[row] >= 0; }

  private:
    i64 outside;
    Lists of_row, of_column;
    std::vector<i64> price;
    std::vector<i32> owner, column_of;
    std::vector<i64> paid;
    std::vector<u8> present;
    Search over_rows, over_columns;
    std::vector<std::pair<i32, i64>> scanned;
};

}  // namespace

// present and matched (T,R); the pairs of row r are partners and costs from begin[r] to begin[r+1].
EXPORT int wss_assigned(const i64* begin, const i32* partners, const i64* costs, i64 rows, i64 columns, i64 outside, const u8* present,
                        u8* matched, i64 steps) {
    try {
        Assignment problem(begin, partners, costs, rows, columns, outside);
        const std::vector<u8> none(rows, 0);
        const u8* before = none.data();
        for (i64 step = 0; step < steps; ++step, before = present, present += rows, matched += rows) {
            for (i64 row = 0; row < rows; ++row)
                if (present[row] && !before[row]) problem.add(i32(row));
            for (i64 row = 0; row < rows; ++row)
                if (before[row] && !present[row]) problem.remove(i32(row));
            for (i64 row = 0; row < rows; ++row) matched[row] = problem.matched(row);
        }
    } catch (const std::bad_alloc&) {
        return status_memory;
    }
    return status_ok;
}
