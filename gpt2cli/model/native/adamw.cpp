// AdamW over what is kept narrow, in one walk through memory: each number is widened, moved as torch's fused kernel moves
// it, and narrowed again. Nothing is added up, so the bits do not depend on the number of threads.
//
// Weights are fp32, or bf16 with the 16 bits that they lack of fp32 (training/master_weights.py); moments are fp32, or
// bf16 rounded by chance (training/stochastic_rounding.py); gradients are fp32 or bf16.

#include "lanes.h"

namespace {

struct Noise {
    const int32_t *places;
    int32_t factor, summand;
    __m512i draw(int64_t i, __mmask16 some) const {
        const __m512i place = _mm512_maskz_loadu_epi32(some, places + i);
        const __m512i mixed = _mm512_add_epi32(_mm512_mullo_epi32(place, _mm512_set1_epi32(factor)),
                                               _mm512_set1_epi32(summand));
        return _mm512_srli_epi32(mixed, 16);
    }
};

inline __m512 load(const void *from, bool narrow, int64_t i, __mmask16 some) {
    return narrow ? load_bf16((const bf16 *)from + i, some) : _mm512_maskz_loadu_ps(some, (const float *)from + i);
}

inline void store_upper(void *to, int64_t i, __m512i bits, __mmask16 some) {
    _mm256_mask_storeu_epi16((bf16 *)to + i, some, _mm512_cvtepi32_epi16(_mm512_srai_epi32(bits, 16)));
}

inline void store_moment(void *to, bool narrow, int64_t i, __m512 moment, const Noise &noise, __mmask16 some) {
    if (narrow)
        store_upper(to, i, _mm512_add_epi32(_mm512_castps_si512(moment), noise.draw(i, some)), some);
    else
        _mm512_mask_storeu_ps((float *)to + i, some, moment);
}

inline __m512 load_weights(const void *weights, const int16_t *low, int64_t i, __mmask16 some) {
    if (low == nullptr) return _mm512_maskz_loadu_ps(some, (const float *)weights + i);
    const __m512i upper = _mm512_castps_si512(load_bf16((const bf16 *)weights + i, some));
    const __m512i lower = _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(some, low + i));
    return _mm512_castsi512_ps(_mm512_add_epi32(upper, lower));
}

inline void store_weights(void *weights, int16_t *low, int64_t i, __m512 moved, __mmask16 some) {
    if (low == nullptr) {
        _mm512_mask_storeu_ps((float *)weights + i, some, moved);
        return;
    }
    const __m512i bits = _mm512_castps_si512(moved), nearest = _mm512_add_epi32(bits, _mm512_set1_epi32(0x8000));
    store_upper(weights, i, nearest, some);
    const __m512i upper = _mm512_slli_epi32(_mm512_srai_epi32(nearest, 16), 16);
    _mm256_mask_storeu_epi16(low + i, some, _mm512_cvtepi32_epi16(_mm512_sub_epi32(bits, upper)));
}

}  // namespace

// low: none where weights are fp32. places: random numbers of the moments' noise; a factor and a summand for each moment.
// keep: one less learning rate times decay. rate: learning rate over the first moment's bias correction. root: the square
// root of the second's.
extern "C" void adamw_narrow(void *weights, int16_t *low, const void *gradient, int narrow_gradient, void *exp_avg,
                             void *exp_avg_sq, int narrow_moments, const int32_t *places, int factor, int summand,
                             int factor_sq, int summand_sq, float keep, float rest1, float beta2, float rest2, float rate,
                             float root, float eps, int64_t count, int threads) {
    const Noise noise = {places, factor, summand}, noise_sq = {places, factor_sq, summand_sq};
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; i += LANES) {
        const __mmask16 some = first(count - i);
        const __m512 g = load(gradient, narrow_gradient, i, some);
        __m512 m = load(exp_avg, narrow_moments, i, some), v = load(exp_avg_sq, narrow_moments, i, some);
        m = _mm512_fmadd_ps(_mm512_set1_ps(rest1), _mm512_sub_ps(g, m), m);
        v = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(rest2), g), g, _mm512_mul_ps(v, _mm512_set1_ps(beta2)));
        const __m512 size = _mm512_add_ps(_mm512_div_ps(_mm512_sqrt_ps(v), _mm512_set1_ps(root)), _mm512_set1_ps(eps));
        const __m512 step = _mm512_div_ps(_mm512_mul_ps(_mm512_set1_ps(-rate), m), size);
        // rounded before the step is added, as torch does; this form keeps compilers from making one operation of both
        const __m512 w = _mm512_mul_round_ps(load_weights(weights, low, i, some), _mm512_set1_ps(keep),
                                             _MM_FROUND_CUR_DIRECTION);
        store_weights(weights, low, i, _mm512_add_ps(w, step), some);
        store_moment(exp_avg, narrow_moments, i, m, noise, some);
        store_moment(exp_avg_sq, narrow_moments, i, v, noise_sq, some);
    }
}
