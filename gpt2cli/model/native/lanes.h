// Sixteen numbers at once: bf16 in memory, fp32 in AVX-512 registers. Included by every kernel here.
#pragma once

#include <immintrin.h>
#include <cstdint>
#include <cstring>

#ifndef __AVX512BF16__
#error "these kernels are for processors with AVX-512 and its bf16 instructions"
#endif

typedef uint16_t bf16;

static const int LANES = 16;

static inline __m512 widen(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }

static inline __m512 load_bf16(const bf16 *p) { return widen(_mm256_loadu_si256((const __m256i *)p)); }

static inline __m512 load_bf16(const bf16 *p, __mmask16 some) { return widen(_mm256_maskz_loadu_epi16(some, p)); }

static inline __m256i narrow(__m512 v) { return (__m256i)_mm512_cvtneps_pbh(v); }

static inline void store_bf16(bf16 *p, __m512 v) { _mm256_storeu_si256((__m256i *)p, narrow(v)); }

static inline void store_bf16(bf16 *p, __m512 v, __mmask16 some) { _mm256_mask_storeu_epi16(p, some, narrow(v)); }

static inline __mmask16 first(int64_t count) { return count >= LANES ? 0xffff : (__mmask16)((1u << count) - 1); }

// e^x to about 1e-7 relative: 2^n times a polynomial (Cephes' expf) of what is left. Below -87 it is zero.
static inline __m512 exp_ps(__m512 x) {
    const __mmask16 there = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GE_OQ);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 y = _mm512_set1_ps(1.9875691500e-4f);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.3981999507e-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(8.3334519073e-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(4.1665795894e-2f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.6666665459e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(5.0000001201e-1f));
    y = _mm512_fmadd_ps(_mm512_mul_ps(y, r), r, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    // NaN is not below -87 nor above: it is carried on, so that a loss that is not finite is seen
    const __mmask16 kept = there | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_maskz_scalef_ps(kept, y, n);
}
