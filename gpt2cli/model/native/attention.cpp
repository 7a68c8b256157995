// Causal attention and its gradient in bf16, every sum in fp32: blocks of 64 queries against all keys before them.
//
// As in FlashAttention (Dao 2023, algorithms 1 and 2) probabilities are never stored: the backward pass computes them
// again from the logarithm of each row's sum. A row's scores fit the second-level cache, so that its softmax is the plain
// one, in one piece. Threads divide (batch, head) pairs and share nothing: the bits do not depend on their number.
//
// qkv is (B, T, 3, H, D) as the projection leaves it, out and its gradient (B, T, H, D), lse (B, H, T). D is a multiple of
// 16. Positions are padded with zeros to a multiple of QUERIES inside; no padding is ever a key of a real query.
//
// Threads take what memory they need. Where one gets none the results are unfinished and 1 is returned, else 0: nothing
// thrown may leave a parallel loop, nor what is called from Python.

#include <cmath>
#include <cstdlib>
#include <new>

#include "lanes.h"

namespace {

const int QUERIES = 64;

// Memory of one thread, aligned for whole registers.
template <typename T> struct Room {
    T *at;
    explicit Room(int64_t count) : at((T *)std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64)) {
        if (at == nullptr) throw std::bad_alloc();
    }
    ~Room() { std::free(at); }
    Room(const Room &) = delete;
    Room &operator=(const Room &) = delete;
};

// C (M x 16 N) = or += A (M x 2 pairs) B: A's rows hold consecutive pairs, B is packed as [pair][column][2].
template <int M, int N>
inline void tile(int pairs, const bf16 *A, int64_t lda, const bf16 *B, int64_t ldb, float *C, int64_t ldc, bool add) {
    __m512 acc[M][N];
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) acc[m][n] = add ? _mm512_loadu_ps(C + m * ldc + n * LANES) : _mm512_setzero_ps();
    for (int p = 0; p < pairs; p++) {
        __m512bh b[N];
        for (int n = 0; n < N; n++) b[n] = (__m512bh)_mm512_loadu_si512(B + 2 * (p * ldb + n * LANES));
        for (int m = 0; m < M; m++) {
            int32_t pair;
            std::memcpy(&pair, A + m * lda + 2 * p, 4);
            const __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
            for (int n = 0; n < N; n++) acc[m][n] = _mm512_dpbf16_ps(acc[m][n], a, b[n]);
        }
    }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) _mm512_storeu_ps(C + m * ldc + n * LANES, acc[m][n]);
}

// The same for any number of rows that 8 divides and of columns that 16 divides.
void multiply(int rows, int columns, int pairs, const bf16 *A, int64_t lda, const bf16 *B, int64_t ldb, float *C,
              int64_t ldc, bool add) {
    int n = 0;
    for (; n + 32 <= columns; n += 32)
        for (int m = 0; m < rows; m += 8)
            tile<8, 2>(pairs, A + m * lda, lda, B + 2 * n, ldb, C + m * ldc + n, ldc, add);
    for (; n < columns; n += 16)
        for (int m = 0; m < rows; m += 8)
            tile<8, 1>(pairs, A + m * lda, lda, B + 2 * n, ldb, C + m * ldc + n, ldc, add);
}

// One head's part of a (T, stride) array in the three orders that products ask for, zeros from T to padded.
void pack_rows(const bf16 *x, int64_t stride, int T, int padded, int D, bf16 *rows) {
    for (int t = 0; t < T; t++) std::memcpy(rows + (int64_t)t * D, x + t * stride, D * sizeof(bf16));
    std::memset(rows + (int64_t)T * D, 0, (int64_t)(padded - T) * D * sizeof(bf16));
}

void interleave(const bf16 *even, const bf16 *odd, int count, bf16 *out) {  // count: a multiple of 16
    for (int i = 0; i < count; i += LANES) {
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(even + i)));
        const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(odd + i)));
        _mm512_storeu_si512(out + 2 * i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

// rows (padded, D) -> pairs of positions [padded / 2][D][2]
void pack_position_pairs(const bf16 *rows, int padded, int D, bf16 *pairs) {
    for (int t = 0; t < padded; t += 2) interleave(rows + (int64_t)t * D, rows + (int64_t)(t + 1) * D, D, pairs + (int64_t)t * D);
}

// rows (padded, D) -> pairs of features [D / 2][padded][2]
void pack_feature_pairs(const bf16 *rows, int padded, int D, bf16 *pairs) {
    for (int t = 0; t < padded; t++)
        for (int d = 0; d < D; d += 2) std::memcpy(pairs + (int64_t)d * padded + 2 * t, rows + (int64_t)t * D + d, 4);
}

// rows (padded, D) -> (D, padded)
void transpose(const bf16 *rows, int padded, int D, bf16 *out) {
    for (int t = 0; t < padded; t++)
        for (int d = 0; d < D; d++) out[(int64_t)d * padded + t] = rows[(int64_t)t * D + d];
}

// The keys that a query sees, of LANES from `key` on.
inline __mmask16 seen(int query, int key) { return query < key ? 0 : first((int64_t)query - key + 1); }

struct Head {
    int T, padded, D;
    float scale;
};

void forward_head(const Head &head, const bf16 *qkv, int64_t stride, int64_t width, bf16 *out, float *lse) {
    const int T = head.T, padded = head.padded, D = head.D;
    Room<bf16> q((int64_t)padded * D), rows((int64_t)padded * D), k((int64_t)padded * D), v((int64_t)padded * D);
    Room<float> scores((int64_t)QUERIES * padded), y((int64_t)QUERIES * D);
    Room<bf16> p((int64_t)QUERIES * padded);
    pack_rows(qkv, stride, T, padded, D, q.at);
    pack_rows(qkv + width, stride, T, padded, D, rows.at);
    pack_feature_pairs(rows.at, padded, D, k.at);
    pack_rows(qkv + 2 * width, stride, T, padded, D, rows.at);
    pack_position_pairs(rows.at, padded, D, v.at);
    const __m512 scale = _mm512_set1_ps(head.scale);
    for (int begin = 0; begin < padded; begin += QUERIES) {
        const int keys = begin + QUERIES;
        multiply(QUERIES, keys, D / 2, q.at + (int64_t)begin * D, D, k.at, padded, scores.at, padded, false);
        float inverse[QUERIES];
        for (int i = 0; i < QUERIES; i++) {
            float *row = scores.at + (int64_t)i * padded;
            bf16 *probability = p.at + (int64_t)i * padded;
            __m512 most = _mm512_set1_ps(-INFINITY);
            for (int j = 0; j < keys; j += LANES) {
                const __m512 s = _mm512_mul_ps(_mm512_loadu_ps(row + j), scale);
                most = _mm512_mask_max_ps(most, seen(begin + i, j), most, s);
            }
            const float peak = _mm512_reduce_max_ps(most);
            __m512 sum = _mm512_setzero_ps();
            for (int j = 0; j < keys; j += LANES) {
                const __m512 s = _mm512_fmsub_ps(_mm512_loadu_ps(row + j), scale, _mm512_set1_ps(peak));
                const __m512 e = _mm512_maskz_mov_ps(seen(begin + i, j), exp_ps(s));
                sum = _mm512_add_ps(sum, e);
                store_bf16(probability + j, e);
            }
            const float total = _mm512_reduce_add_ps(sum);
            inverse[i] = 1.0f / total;
            if (begin + i < T) lse[begin + i] = peak + std::log(total);
        }
        multiply(QUERIES, D, keys / 2, p.at, padded, v.at, D, y.at, D, false);
        for (int i = 0; i < QUERIES && begin + i < T; i++)
            for (int d = 0; d < D; d += LANES)
                store_bf16(out + (begin + i) * width + d,
                           _mm512_mul_ps(_mm512_loadu_ps(y.at + i * D + d), _mm512_set1_ps(inverse[i])));
    }
}

// Write (D, padded) fp32, transposed, as the first T rows of a (T, stride) bf16 array.
void store_transposed(const float *x, int T, int padded, int D, bf16 *out, int64_t stride) {
    for (int t = 0; t < T; t++) {
        const __m512i step = _mm512_mullo_epi32(_mm512_set1_epi32(padded),
                                                _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
        for (int d = 0; d < D; d += LANES)
            store_bf16(out + t * stride + d, _mm512_i32gather_ps(step, x + (int64_t)d * padded + t, 4));
    }
}

void backward_head(const Head &head, const bf16 *qkv, int64_t stride, int64_t width, const bf16 *out, const bf16 *dout,
                   const float *lse, bf16 *dqkv) {
    const int T = head.T, padded = head.padded, D = head.D;
    const int64_t all = (int64_t)padded * D;
    Room<bf16> q(all), qT(all), g(all), gT(all), rows(all), k(all), k_by_position(all), v(all);
    Room<float> dkT(all), dvT(all), s((int64_t)QUERIES * QUERIES), dp((int64_t)QUERIES * QUERIES), dq(QUERIES * D);
    Room<bf16> p((int64_t)QUERIES * QUERIES), ds((int64_t)QUERIES * QUERIES), ds_pairs((int64_t)QUERIES * QUERIES),
        p_row((int64_t)QUERIES * QUERIES);
    pack_rows(qkv, stride, T, padded, D, q.at);
    transpose(q.at, padded, D, qT.at);
    pack_rows(dout, width, T, padded, D, g.at);
    transpose(g.at, padded, D, gT.at);
    pack_rows(qkv + width, stride, T, padded, D, rows.at);
    pack_feature_pairs(rows.at, padded, D, k.at);
    pack_position_pairs(rows.at, padded, D, k_by_position.at);
    pack_rows(qkv + 2 * width, stride, T, padded, D, rows.at);
    pack_feature_pairs(rows.at, padded, D, v.at);
    std::memset(dkT.at, 0, all * sizeof(float));
    std::memset(dvT.at, 0, all * sizeof(float));
    const __m512 scale = _mm512_set1_ps(head.scale);
    for (int begin = 0; begin < padded; begin += QUERIES) {
        float delta[QUERIES];
        for (int i = 0; i < QUERIES; i++) {
            __m512 sum = _mm512_setzero_ps();
            if (begin + i < T)
                for (int d = 0; d < D; d += LANES)
                    sum = _mm512_fmadd_ps(load_bf16(out + (begin + i) * width + d),
                                          load_bf16(g.at + (int64_t)(begin + i) * D + d), sum);
            delta[i] = _mm512_reduce_add_ps(sum);
        }
        for (int key = 0; key <= begin; key += QUERIES) {
            multiply(QUERIES, QUERIES, D / 2, q.at + (int64_t)begin * D, D, k.at + 2 * key, padded, s.at, QUERIES, false);
            multiply(QUERIES, QUERIES, D / 2, g.at + (int64_t)begin * D, D, v.at + 2 * key, padded, dp.at, QUERIES, false);
            for (int i = 0; i < QUERIES; i++) {
                const bool real = begin + i < T;
                const __m512 log_sum = _mm512_set1_ps(real ? lse[begin + i] : 0.0f), mean = _mm512_set1_ps(delta[i]);
                for (int j = 0; j < QUERIES; j += LANES) {
                    const __mmask16 some = real ? seen(begin + i, key + j) : 0;
                    const int at = i * QUERIES + j;
                    const __m512 e = exp_ps(_mm512_fmsub_ps(_mm512_loadu_ps(s.at + at), scale, log_sum));
                    const __m512 probability = _mm512_maskz_mov_ps(some, e);
                    const __m512 slope = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(dp.at + at), mean), scale);
                    store_bf16(p_row.at + at, probability);
                    store_bf16(ds.at + at, _mm512_maskz_mul_ps(some, probability, slope));
                }
            }
            pack_position_pairs(p_row.at, QUERIES, QUERIES, p.at);
            pack_position_pairs(ds.at, QUERIES, QUERIES, ds_pairs.at);
            multiply(QUERIES, D, QUERIES / 2, ds.at, QUERIES, k_by_position.at + (int64_t)key * D, D, dq.at, D, key > 0);
            multiply(D, QUERIES, QUERIES / 2, qT.at + begin, padded, ds_pairs.at, QUERIES, dkT.at + key, padded, true);
            multiply(D, QUERIES, QUERIES / 2, gT.at + begin, padded, p.at, QUERIES, dvT.at + key, padded, true);
        }
        for (int i = 0; i < QUERIES && begin + i < T; i++)
            for (int d = 0; d < D; d += LANES)
                store_bf16(dqkv + (begin + i) * stride + d, _mm512_loadu_ps(dq.at + i * D + d));
    }
    store_transposed(dkT.at, T, padded, D, dqkv + width, stride);
    store_transposed(dvT.at, T, padded, D, dqkv + 2 * width, stride);
}

}  // namespace

extern "C" int attention_forward(const bf16 *qkv, bf16 *out, float *lse, int64_t B, int64_t T, int64_t H, int64_t D,
                                 int threads) {
    const int64_t width = H * D;
    const Head head = {(int)T, (int)((T + QUERIES - 1) / QUERIES * QUERIES), (int)D, 1.0f / std::sqrt((float)D)};
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (int64_t each = 0; each < B * H; each++) {
        const int64_t b = each / H, h = each % H, at = b * T * width + h * D;
        try {
            forward_head(head, qkv + b * T * 3 * width + h * D, 3 * width, width, out + at, lse + each * T);
        } catch (const std::bad_alloc &) {
            failed = 1;
        }
    }
    return failed;
}

extern "C" int attention_backward(const bf16 *qkv, const bf16 *out, const bf16 *dout, const float *lse, bf16 *dqkv,
                                  int64_t B, int64_t T, int64_t H, int64_t D, int threads) {
    const int64_t width = H * D;
    const Head head = {(int)T, (int)((T + QUERIES - 1) / QUERIES * QUERIES), (int)D, 1.0f / std::sqrt((float)D)};
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (int64_t each = 0; each < B * H; each++) {
        const int64_t b = each / H, h = each % H, at = b * T * width + h * D;
        try {
            backward_head(head, qkv + b * T * 3 * width + h * D, 3 * width, width, out + at, dout + at, lse + each * T,
                          dqkv + b * T * 3 * width + h * D);
        } catch (const std::bad_alloc &) {
            failed = 1;
        }
    }
    return failed;
}
