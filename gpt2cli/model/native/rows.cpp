// What stands between the matrix products: layer norm, the tanh GELU, bias gradients, and sums of gradients.
//
// Activations are bf16, the residual stream, statistics, weights of norms and all gradients of parameters fp32. N rows of
// C numbers, C a multiple of 16. Sums over rows go down the columns in order, threads divide the columns: the bits do not
// depend on their number.

#include <cmath>

#include "lanes.h"

namespace {

// tanh as 1 - 2 / (1 + e^2z)
inline __m512 tanh_ps(__m512 z) {
    const __m512 one = _mm512_set1_ps(1.0f);
    // beyond 15 the fp32 result is one; exp_ps must not overflow
    const __m512 twice = _mm512_max_ps(_mm512_min_ps(_mm512_add_ps(z, z), _mm512_set1_ps(30.0f)), _mm512_set1_ps(-30.0f));
    const __mmask16 no_number = _mm512_cmp_ps_mask(z, z, _CMP_UNORD_Q);
    const __m512 y = _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0f), _mm512_add_ps(one, exp_ps(twice))));
    return _mm512_mask_mov_ps(y, no_number, z);
}

const float ROOT = 0.79788456080286535588f;  // sqrt(2 / pi)
const float CUBIC = 0.044715f;

}  // namespace

// sum = x + y (y bf16, or none: sum is x), normed = (sum - mean) * rstd * w + b; mean and rstd of each row are kept.
extern "C" void norm_forward(const float *x, const bf16 *y, float *sum, const float *w, const float *b, bf16 *normed,
                             float *mean, float *rstd, int64_t N, int64_t C, float eps, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < N; i++) {
        const float *row = x + i * C;
        __m512 total = _mm512_setzero_ps();
        if (y != nullptr) {
            float *out = sum + i * C;
            for (int64_t c = 0; c < C; c += LANES) {
                const __m512 v = _mm512_add_ps(_mm512_loadu_ps(row + c), load_bf16(y + i * C + c));
                _mm512_storeu_ps(out + c, v);
                total = _mm512_add_ps(total, v);
            }
            row = out;
        } else {
            for (int64_t c = 0; c < C; c += LANES) total = _mm512_add_ps(total, _mm512_loadu_ps(row + c));
        }
        const float m = _mm512_reduce_add_ps(total) / C;
        __m512 squares = _mm512_setzero_ps();
        for (int64_t c = 0; c < C; c += LANES) {
            const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(row + c), _mm512_set1_ps(m));
            squares = _mm512_fmadd_ps(d, d, squares);
        }
        const float r = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / C + eps);
        for (int64_t c = 0; c < C; c += LANES) {
            const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(row + c), _mm512_set1_ps(m)), _mm512_set1_ps(r));
            store_bf16(normed + i * C + c, _mm512_fmadd_ps(d, _mm512_loadu_ps(w + c), _mm512_loadu_ps(b + c)));
        }
        mean[i] = m;
        rstd[i] = r;
    }
}

// (x - mean) * rstd * w + b once more.
extern "C" void norm_again(const float *x, const float *mean, const float *rstd, const float *w, const float *b,
                           bf16 *normed, int64_t N, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < N; i++)
        for (int64_t c = 0; c < C; c += LANES) {
            const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i * C + c), _mm512_set1_ps(mean[i])),
                                           _mm512_set1_ps(rstd[i]));
            store_bf16(normed + i * C + c, _mm512_fmadd_ps(d, _mm512_loadu_ps(w + c), _mm512_loadu_ps(b + c)));
        }
}

// From the gradient g of `normed`: dx += that of x, narrow = dx as bf16, dw and db += those of w and b.
extern "C" void norm_backward(const bf16 *g, const float *x, const float *mean, const float *rstd, const float *w,
                              float *dx, bf16 *narrow_dx, float *dw, float *db, int64_t N, int64_t C, int threads) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < N; i++) {
            const __m512 m = _mm512_set1_ps(mean[i]), r = _mm512_set1_ps(rstd[i]);
            __m512 sum = _mm512_setzero_ps(), with_x = _mm512_setzero_ps();
            for (int64_t c = 0; c < C; c += LANES) {
                const __m512 gw = _mm512_mul_ps(load_bf16(g + i * C + c), _mm512_loadu_ps(w + c));
                sum = _mm512_add_ps(sum, gw);
                with_x = _mm512_fmadd_ps(gw, _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i * C + c), m), r), with_x);
            }
            const __m512 a = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / C);
            const __m512 s = _mm512_set1_ps(_mm512_reduce_add_ps(with_x) / C);
            for (int64_t c = 0; c < C; c += LANES) {
                const __m512 gw = _mm512_mul_ps(load_bf16(g + i * C + c), _mm512_loadu_ps(w + c));
                const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i * C + c), m), r);
                const __m512 own = _mm512_mul_ps(_mm512_sub_ps(_mm512_sub_ps(gw, a), _mm512_mul_ps(d, s)), r);
                const __m512 all = _mm512_add_ps(_mm512_loadu_ps(dx + i * C + c), own);
                _mm512_storeu_ps(dx + i * C + c, all);
                store_bf16(narrow_dx + i * C + c, all);
            }
        }
#pragma omp for schedule(static)
        for (int64_t c = 0; c < C; c += LANES) {
            __m512 weight = _mm512_setzero_ps(), bias = _mm512_setzero_ps();
            for (int64_t i = 0; i < N; i++) {
                const __m512 each = load_bf16(g + i * C + c);
                const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i * C + c), _mm512_set1_ps(mean[i])),
                                               _mm512_set1_ps(rstd[i]));
                weight = _mm512_fmadd_ps(each, d, weight);
                bias = _mm512_add_ps(bias, each);
            }
            _mm512_storeu_ps(dw + c, _mm512_add_ps(_mm512_loadu_ps(dw + c), weight));
            _mm512_storeu_ps(db + c, _mm512_add_ps(_mm512_loadu_ps(db + c), bias));
        }
    }
}

// The tanh GELU of `count` numbers.
extern "C" void gelu_forward(const bf16 *x, bf16 *y, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; i += LANES) {
        const __mmask16 some = first(count - i);
        const __m512 v = load_bf16(x + i, some);
        const __m512 square = _mm512_mul_ps(v, v);
        const __m512 z = _mm512_mul_ps(_mm512_mul_ps(v, _mm512_set1_ps(ROOT)),
                                       _mm512_fmadd_ps(square, _mm512_set1_ps(CUBIC), _mm512_set1_ps(1.0f)));
        const __m512 half = _mm512_mul_ps(v, _mm512_set1_ps(0.5f));
        store_bf16(y + i, _mm512_fmadd_ps(half, tanh_ps(z), half), some);
    }
}

// From x and the gradient dy of its GELU: y the GELU once more, dy becomes the gradient of x, in place.
extern "C" void gelu_backward(const bf16 *x, bf16 *dy, bf16 *y, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; i += LANES) {
        const __mmask16 some = first(count - i);
        const __m512 v = load_bf16(x + i, some), one = _mm512_set1_ps(1.0f), half = _mm512_set1_ps(0.5f);
        const __m512 square = _mm512_mul_ps(v, v);
        const __m512 z = _mm512_mul_ps(_mm512_mul_ps(v, _mm512_set1_ps(ROOT)),
                                       _mm512_fmadd_ps(square, _mm512_set1_ps(CUBIC), one));
        const __m512 t = tanh_ps(z), half_v = _mm512_mul_ps(v, half);
        const __m512 dz = _mm512_mul_ps(_mm512_set1_ps(ROOT), _mm512_fmadd_ps(square, _mm512_set1_ps(3 * CUBIC), one));
        const __m512 sech = _mm512_fnmadd_ps(t, t, one);
        const __m512 slope = _mm512_fmadd_ps(half_v, _mm512_mul_ps(sech, dz), _mm512_fmadd_ps(half, t, half));
        store_bf16(y + i, _mm512_fmadd_ps(half_v, t, half_v), some);
        store_bf16(dy + i, _mm512_mul_ps(load_bf16(dy + i, some), slope), some);
    }
}

// sums (C) += the column sums of g (N, C): the gradient of a bias.
extern "C" void add_column_sums(const bf16 *g, float *sums, int64_t N, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < C; c += LANES) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = 0; i < N; i++) sum = _mm512_add_ps(sum, load_bf16(g + i * C + c));
        _mm512_storeu_ps(sums + c, _mm512_add_ps(_mm512_loadu_ps(sums + c), sum));
    }
}

// sum = or += x, bf16 into fp32.
extern "C" void add_widened(const bf16 *x, float *sum, int64_t count, int add, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; i += LANES) {
        const __mmask16 some = first(count - i);
        __m512 v = load_bf16(x + i, some);
        if (add) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(some, sum + i));
        _mm512_mask_storeu_ps(sum + i, some, v);
    }
}

// Rows of n logits become the gradient of `scale` times their summed nll; nll[i] = -log p(target) of row i in nats.
extern "C" void nll_in_place(bf16 *logits, const int64_t *targets, float *nll, float scale, int64_t N, int64_t n,
                             int64_t stride, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < N; i++) {
        bf16 *row = logits + i * stride;
        __m512 most = _mm512_set1_ps(-INFINITY);
        for (int64_t j = 0; j < n; j += LANES) {
            const __mmask16 some = first(n - j);
            most = _mm512_mask_max_ps(most, some, most, load_bf16(row + j, some));
        }
        const __m512 peak = _mm512_set1_ps(_mm512_reduce_max_ps(most));
        __m512 sum = _mm512_setzero_ps();
        for (int64_t j = 0; j < n; j += LANES) {
            const __mmask16 some = first(n - j);
            sum = _mm512_mask_add_ps(sum, some, sum, exp_ps(_mm512_sub_ps(load_bf16(row + j, some), peak)));
        }
        const float log_z = _mm512_cvtss_f32(peak) + std::log(_mm512_reduce_add_ps(sum));
        const uint32_t bits = (uint32_t)row[targets[i]] << 16;
        float logit;
        std::memcpy(&logit, &bits, 4);
        nll[i] = log_z - logit;
        const __m512 log_sum = _mm512_set1_ps(log_z), factor = _mm512_set1_ps(scale);
        for (int64_t j = 0; j < n; j += LANES) {
            const __mmask16 some = first(n - j);
            const __m512 p = exp_ps(_mm512_sub_ps(load_bf16(row + j, some), log_sum));
            store_bf16(row + j, _mm512_mul_ps(p, factor), some);
        }
        const float of_target = std::exp(logit - log_z) - 1.0f;
        const __m256i own = narrow(_mm512_set1_ps(of_target * scale));
        row[targets[i]] = (bf16)_mm256_extract_epi16(own, 0);
    }
}
