// The whole training pass of a small GPT-2 in fp32 in one call: loss, and the gradient added to that of every parameter.
//
// What a network of 16 to 256 columns costs in a framework is mostly not arithmetic. Here a group of sequences goes
// through all layers, forward and back, while what it leaves behind is still in the second-level cache, and nothing is
// allocated. Groups are divided among threads, each with sums of its own that are added up in the threads' order: for
// one number of threads the bits are always the same. Plain C++ with GCC's vector types, so any processor will do.
//
// Matrices are row-major with padded rows of an odd number of vectors (`pitch`), which spreads them over the cache's
// sets. Padding of weights and activations is zero; that of gradients is never read. T is a multiple of 16.
// Letters: R rows of a group, C width, H heads, D head size, T context, V vocabulary; `t` at an end means transposed.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));

#ifdef __clang__
#define CHOOSE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define CHOOSE(a, b, ...) __builtin_shuffle(a, b, ints{__VA_ARGS__})
#endif

const int64_t LANES = 16;
const int64_t GROUP_ROWS = 64;
#ifdef __AVX512F__
const int TILE_ROWS = 8, TILE_VECS = 3;
#else
const int TILE_ROWS = 6, TILE_VECS = 1;
#endif
const float EPS = 1e-5f;
const float NEVER = -1e30f;

inline int64_t vecs(int64_t n) { return (n + LANES - 1) / LANES; }
inline int64_t round_up(int64_t n) { return vecs(n) * LANES; }
inline int64_t pitch(int64_t n) { return (vecs(n) | 1) * LANES; }
inline vec &at(float *p) { return *(vec *)p; }
inline const vec &at(const float *p) { return *(const vec *)p; }
inline vec all(float x) { return x - vec{}; }

inline float sum(vec v) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}

inline ints lane_numbers() { return ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

// e^x to about 1e-7 relative (Cephes' expf), zero below -87, NaN for NaN.
inline vec exp(vec x) {
    const vec y = x > 88.0f ? all(88.0f) : x;
    const vec n = (y * 1.44269504088896341f + 12582912.0f) - 12582912.0f;  // rounds to a whole number
    const vec r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const ints power = (__builtin_convertvector(n, ints) + 127) << 23;
    return x < -87.0f ? vec{} : p * (vec)power;
}

// C (M x 16 N) = A (M x K) B (K x 16 N), plus `init` (C itself, or another matrix, or none) and a row `bias` or none.
// A is read as [row][k], or, ACROSS, as [k][row].
template <int M, int N, bool ACROSS>
inline void tile(int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb, float *C, int64_t ldc,
                 const float *init, const float *bias) {
    vec acc[M][N];
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            acc[m][n] = init ? at(init + m * ldc + n * LANES) : vec{};
            if (bias) acc[m][n] += at(bias + n * LANES);
        }
    for (int64_t k = 0; k < K; k++) {
        vec b[N];
        for (int n = 0; n < N; n++) b[n] = at(B + k * ldb + n * LANES);
        for (int m = 0; m < M; m++) {
            const float a = ACROSS ? A[k * lda + m] : A[m * lda + k];
            for (int n = 0; n < N; n++) acc[m][n] += a * b[n];
        }
    }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) at(C + m * ldc + n * LANES) = acc[m][n];
}

template <int N, bool ACROSS>
inline void column(int64_t M, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb, float *C, int64_t ldc,
                   const float *init, const float *bias) {
    const int64_t step = ACROSS ? 1 : lda;
    int64_t m = 0;
    for (; m + TILE_ROWS <= M; m += TILE_ROWS)
        tile<TILE_ROWS, N, ACROSS>(K, A + m * step, lda, B, ldb, C + m * ldc, ldc, init ? init + m * ldc : nullptr, bias);
    for (; m + 2 <= M; m += 2)
        tile<2, N, ACROSS>(K, A + m * step, lda, B, ldb, C + m * ldc, ldc, init ? init + m * ldc : nullptr, bias);
    if (m < M) tile<1, N, ACROSS>(K, A + m * step, lda, B, ldb, C + m * ldc, ldc, init ? init + m * ldc : nullptr, bias);
}

// The product of whole matrices; N counts vectors.
template <bool ACROSS>
void multiply(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb, float *C,
              int64_t ldc, const float *init = nullptr, const float *bias = nullptr) {
    int64_t n = 0;
    const auto from = [&](const float *p) { return p ? p + n * LANES : nullptr; };
    for (; n + TILE_VECS <= N; n += TILE_VECS)
        column<TILE_VECS, ACROSS>(M, K, A, lda, B + n * LANES, ldb, C + n * LANES, ldc, from(init), from(bias));
    for (; n + 2 <= N; n += 2)
        column<2, ACROSS>(M, K, A, lda, B + n * LANES, ldb, C + n * LANES, ldc, from(init), from(bias));
    if (n < N) column<1, ACROSS>(M, K, A, lda, B + n * LANES, ldb, C + n * LANES, ldc, from(init), from(bias));
}

// Transposes in blocks of 16 x 16; rows and columns are rounded up to whole blocks, for which both must have room.
void transpose(int64_t rows, int64_t columns, const float *from, int64_t ldf, float *to, int64_t ldt) {
    for (int64_t r = 0; r < rows; r += LANES)
        for (int64_t c = 0; c < columns; c += LANES) {
            vec a[LANES], b[LANES];
            for (int i = 0; i < LANES; i++) a[i] = at(from + (r + i) * ldf + c);
            // four rounds of a perfect shuffle of the rows' elements
            for (int round = 0; round < 4; round++) {
                for (int i = 0; i < 8; i++) {
                    b[2 * i] = CHOOSE(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                    b[2 * i + 1] = CHOOSE(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
                }
                std::memcpy(a, b, sizeof a);
            }
            for (int i = 0; i < LANES; i++) at(to + (c + i) * ldt + r) = a[i];
        }
}

struct Shape {
    int64_t L, H, C, T, V, B;
    int64_t D() const { return C / H; }
    int64_t group() const { const int64_t most = GROUP_ROWS / T; return most > 1 ? (most < B ? most : B) : 1; }
};

enum { NORM1 = 2, QKV = 4, OUT = 6, NORM2 = 8, FC = 10, PROJ = 12, EACH = 12 };  // each weight, then its bias

// What parameter number p is, in the order of torch's named_parameters().
struct Parameter {
    int64_t rows, columns;
    bool turned;  // whether its transpose is needed too
    Parameter(const Shape &s, int64_t p) {
        const int64_t C = s.C, last = 2 + EACH * s.L, kind = p < 2 ? p : p < last ? 2 + (p - 2) % EACH : 2;
        rows = kind == 0 ? s.V : kind == 1 ? s.T : kind == QKV || kind == OUT || kind == FC ? C : kind == PROJ ? 4 * C : 1;
        columns = kind / 2 == QKV / 2 ? 3 * C : kind / 2 == FC / 2 ? 4 * C : C;
        turned = kind == 0 || kind == QKV || kind == OUT || kind == FC || kind == PROJ;
    }
    int64_t room() const { return round_up(rows) * pitch(columns); }
};

// Takes memory from the front of a workspace; without one it only counts.
struct Room {
    float *base;
    int64_t used;
    float *take(int64_t count) {
        float *found = base ? base + used : nullptr;
        used += round_up(count);
        return found;
    }
};

const int MOST_LAYERS = 64, MOST_POSITIONS = 256, MOST_THREADS = 64;
const int MOST_PARAMETERS = 4 + EACH * MOST_LAYERS;

struct Weights {
    float *w[MOST_PARAMETERS], *wt[MOST_PARAMETERS];
    void take(Room &room, const Shape &s, bool turned) {
        for (int64_t p = 0; p < 4 + EACH * s.L; p++) {
            const Parameter q(s, p);
            w[p] = room.take(q.room());
            wt[p] = turned && q.turned ? room.take(round_up(q.columns) * pitch(q.rows)) : nullptr;
        }
    }
};

struct Layer {
    float *unit1, *dev1, *in1, *qkvt, *pt, *att, *unit2, *dev2, *in2, *act, *slope;
};

// One thread's memory: sums of gradients, what the forward pass keeps of a group, and room for the way back.
struct Thread {
    Weights sums;
    float *first, *end;
    Layer layer[MOST_LAYERS];
    float *x, *unit, *dev, *in, *logits, *wide, *dx, *dh, *dott, *dqkvt, *dpt, *p, *ds;
    void take(Room &room, const Shape &s) {
        const int64_t R = round_up(s.group() * s.T), C = s.C, PT = pitch(s.T), H = s.H;
        const int64_t narrow = R * pitch(C), four = R * pitch(4 * C);
        first = room.take(0);
        sums.take(room, s, false);
        end = room.take(0);
        for (int64_t l = 0; l < s.L; l++) {
            Layer &y = layer[l];
            float **const parts[] = {&y.unit1, &y.in1, &y.att, &y.unit2, &y.in2};
            for (float **part : parts) *part = room.take(narrow);
            y.dev1 = room.take(R), y.dev2 = room.take(R);
            y.act = room.take(four), y.slope = room.take(four);
            y.qkvt = room.take(s.group() * round_up(3 * C) * PT), y.pt = room.take(s.group() * H * s.T * PT);
        }
        x = room.take(narrow), unit = room.take(narrow), in = room.take(narrow), dx = room.take(narrow);
        dh = room.take(narrow), dev = room.take(R), logits = room.take(R * pitch(s.V)), wide = room.take(four);
        dott = room.take(round_up(C) * PT), dqkvt = room.take(round_up(3 * C) * PT);
        dpt = room.take(s.T * PT), p = room.take(s.T * PT), ds = room.take(s.T * PT);
    }
};

Thread *take_parts(Room &room, int64_t threads) { return (Thread *)room.take(threads * sizeof(Thread) / sizeof(float)); }

// in = unit w + b with unit = (x - mean) dev, row by row; dev is one over the deviation.
void norm(int64_t R, int64_t C, const float *x, const float *w, const float *b, float *unit, float *dev, float *in) {
    const int64_t P = pitch(C), N = vecs(C);
    const ints live = lane_numbers() < (int32_t)(C - (N - 1) * LANES);
    for (int64_t r = 0; r < R; r++, x += P, unit += P, in += P) {
        vec total{};
        for (int64_t n = 0; n < N; n++) total += at(x + n * LANES);
        const float mean = sum(total) / C;
        vec squares{};
        for (int64_t n = 0; n < N; n++) {
            vec d = at(x + n * LANES) - mean;
            if (n == N - 1) d = live ? d : vec{};
            squares += d * d;
            at(unit + n * LANES) = d;
        }
        dev[r] = 1.0f / std::sqrt(sum(squares) / C + EPS);
        for (int64_t n = 0; n < N; n++) {
            const vec u = at(unit + n * LANES) * dev[r];
            at(unit + n * LANES) = u;
            at(in + n * LANES) = u * at(w + n * LANES) + at(b + n * LANES);
        }
    }
}

// Adds what comes back through a norm, of the gradient dh of its output, to dx, and to the sums of its parameters.
void norm_back(int64_t R, int64_t C, const float *dh, const float *w, const float *unit, const float *dev, float *dx,
               float *sum_w, float *sum_b) {
    const int64_t P = pitch(C), N = vecs(C);
    const ints live = lane_numbers() < (int32_t)(C - (N - 1) * LANES);
    for (int64_t r = 0; r < R; r++, dh += P, unit += P, dx += P) {
        vec total{}, along{};
        for (int64_t n = 0; n < N; n++) {
            const vec d = at(dh + n * LANES), u = at(unit + n * LANES), dw = d * at(w + n * LANES);
            at(sum_w + n * LANES) += d * u;
            at(sum_b + n * LANES) += d;
            total += dw;
            along += dw * u;
        }
        const float mean = sum(total) / C, share = sum(along) / C;
        for (int64_t n = 0; n < N; n++) {
            vec d = (at(dh + n * LANES) * at(w + n * LANES) - mean - at(unit + n * LANES) * share) * dev[r];
            if (n == N - 1) d = live ? d : vec{};
            at(dx + n * LANES) += d;
        }
    }
}

// The tanh GELU in place, and its slope.
void gelu(int64_t count, float *act, float *slope) {
    const float ROOT = 0.79788456080286535588f, CUBIC = 0.044715f;
    for (int64_t i = 0; i < count; i += LANES) {
        const vec x = at(act + i), square = x * x;
        vec twice = (2.0f * ROOT) * (x + CUBIC * square * x);
        const vec t = 1.0f - 2.0f / (1.0f + exp(twice));
        at(act + i) = 0.5f * x * (1.0f + t);
        at(slope + i) = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * (ROOT * (1.0f + 3.0f * CUBIC * square));
    }
}

void add_columns(int64_t R, int64_t columns, const float *d, float *sums) {
    for (int64_t n = 0; n < vecs(columns); n++) {
        vec total = at(sums + n * LANES);
        for (int64_t r = 0; r < R; r++) total += at(d + r * pitch(columns) + n * LANES);
        at(sums + n * LANES) = total;
    }
}

// to [d][t] = sum over s <= t of left [d][s] times [s][t]: columns in groups, each as deep as it reaches.
void sum_before(int64_t D, int64_t T, const float *left, const float *st, float *to) {
    const int64_t P = pitch(T), N = T / LANES;
    for (int64_t n = 0; n < N; n += TILE_VECS) {
        const int64_t count = n + TILE_VECS <= N ? TILE_VECS : N - n;
        multiply<false>(D, count, (n + count) * LANES, left, P, st + n * LANES, P, to + n * LANES, P);
    }
}

// to [d][s] = sum over t >= s of left [d][t] times [t][s].
void sum_after(int64_t D, int64_t T, const float *left, const float *ts, float *to) {
    const int64_t P = pitch(T), N = T / LANES;
    for (int64_t n = 0; n < N; n += TILE_VECS) {
        const int64_t count = n + TILE_VECS <= N ? TILE_VECS : N - n, first = n * LANES;
        multiply<false>(D, count, T - first, left + first, P, ts + first * P + first, P, to + first, P);
    }
}

// to [s][t] = sum over d of left [d][s] right [d][t], where t is in the block of s or after it.
void products(int64_t D, int64_t T, const float *left, const float *right, float *to) {
    const int64_t P = pitch(T);
    for (int64_t s = 0; s < T; s += LANES)
        multiply<true>(LANES, (T - s) / LANES, D, left + s, P, right + s, P, to + s * P + s, P);
}

// Causal attention of one sequence, all heads; keys stand in the rows of pt, queries in its columns.
void attend(const Shape &s, const float *qkvt, float *pt, float *outt) {
    const int64_t T = s.T, P = pitch(T), D = s.D();
    const float scale = 1.0f / std::sqrt((float)D);
    for (int64_t h = 0; h < s.H; h++, pt += T * P) {
        const float *q = qkvt + h * D * P, *k = q + s.C * P, *v = k + s.C * P;
        products(D, T, k, q, pt);
        for (int64_t n = 0; n < T; n += LANES) {
            float *column = pt + n;
            vec most = all(NEVER), total{};
            for (int64_t r = 0; r < n + LANES; r++) {
                vec x = at(column + r * P) * scale;
                if (r > n) x = lane_numbers() < (int32_t)(r - n) ? all(NEVER) : x;
                at(column + r * P) = x;
                most = most > x ? most : x;
            }
            for (int64_t r = 0; r < n + LANES; r++) {
                const vec e = exp(at(column + r * P) - most);
                at(column + r * P) = e;
                total += e;
            }
            const vec share = 1.0f / total;
            for (int64_t r = 0; r < n + LANES; r++) at(column + r * P) *= share;
            for (int64_t r = n + LANES; r < T; r++) at(column + r * P) = vec{};
        }
        sum_before(D, T, v, pt, outt + h * D * P);
    }
}

// The gradient dqkvt of one sequence's q, k and v from that of its attention, dott.
void attend_back(const Shape &s, const Thread &m, const float *qkvt, const float *pt) {
    const int64_t T = s.T, P = pitch(T), D = s.D(), third = s.C * P;
    const float scale = 1.0f / std::sqrt((float)D);
    for (int64_t h = 0; h < s.H; h++, pt += T * P) {
        const float *q = qkvt + h * D * P, *k = q + third, *v = k + third, *d = m.dott + h * D * P;
        float *dq = m.dqkvt + h * D * P;
        products(D, T, v, d, m.dpt);
        for (int64_t n = 0; n < T; n += LANES) {
            vec along{};
            for (int64_t r = 0; r < n + LANES; r++) along += at(pt + r * P + n) * at(m.dpt + r * P + n);
            for (int64_t r = 0; r < n + LANES; r++)
                at(m.dpt + r * P + n) = at(pt + r * P + n) * (at(m.dpt + r * P + n) - along) * scale;
            for (int64_t r = n + LANES; r < T; r++) at(m.dpt + r * P + n) = vec{};
        }
        transpose(T, T, pt, P, m.p, P);
        transpose(T, T, m.dpt, P, m.ds, P);
        sum_before(D, T, k, m.dpt, dq);
        sum_after(D, T, q, m.ds, dq + third);
        sum_after(D, T, d, m.p, dq + 2 * third);
    }
}

// Returns the summed nll of R rows of logits and leaves `factor` times its gradient in their place.
double head(int64_t R, int64_t V, float *logits, const int64_t *targets, float factor) {
    const int64_t N = vecs(V);
    const ints live = lane_numbers() < (int32_t)(V - (N - 1) * LANES);
    double nll = 0;
    for (int64_t r = 0; r < R; r++, logits += pitch(V)) {
        at(logits + (N - 1) * LANES) = live ? at(logits + (N - 1) * LANES) : all(NEVER);
        const float wanted = logits[targets[r]];
        vec most = at(logits);
        for (int64_t n = 1; n < N; n++) most = most > at(logits + n * LANES) ? most : at(logits + n * LANES);
        float top = most[0];
        for (int i = 1; i < LANES; i++) top = most[i] > top ? most[i] : top;
        vec total{};
        for (int64_t n = 0; n < N; n++) {
            const vec e = exp(at(logits + n * LANES) - top);
            at(logits + n * LANES) = e;
            total += e;
        }
        const float whole = sum(total);
        nll += std::log(whole) - (wanted - top);
        const float share = factor / whole;
        for (int64_t n = 0; n < N; n++) at(logits + n * LANES) *= share;
        logits[targets[r]] -= factor;
    }
    return nll;
}

struct Pass {
    const Shape &s;
    const Weights &w;
    const Thread &m;
    const int64_t R, C = s.C, PC = pitch(C), P3 = pitch(3 * C), P4 = pitch(4 * C), PT = pitch(s.T), PV = pitch(s.V);

    // y = x W + b, or with `add` y += x W + b; parameter p is W
    void project(int64_t p, const float *x, float *y, bool add = false) const {
        const Parameter q(s, p);
        multiply<false>(R, vecs(q.columns), q.rows, x, pitch(q.rows), w.w[p], pitch(q.columns), y, pitch(q.columns),
                        add ? y : nullptr, w.w[p + 1]);
    }

    // the sums of W and b take in the gradient dy; dx = dy W transposed
    void project_back(int64_t p, const float *x, const float *dy, float *dx) const {
        const Parameter q(s, p);
        const int64_t in = pitch(q.rows), out = pitch(q.columns);
        multiply<true>(q.rows, vecs(q.columns), R, x, in, dy, out, m.sums.w[p], out, m.sums.w[p]);
        add_columns(R, q.columns, dy, m.sums.w[p + 1]);
        multiply<false>(R, vecs(q.rows), q.columns, dy, out, w.wt[p], in, dx, in);
    }

    double forward(const int64_t *ids, int64_t id_step, const int64_t *targets, float factor) const {
        const int64_t last = 2 + EACH * s.L;
        for (int64_t r = 0; r < R; r++) {
            const float *token = w.w[0] + ids[r / s.T * id_step + r % s.T] * PC, *place = w.w[1] + r % s.T * PC;
            for (int64_t c = 0; c < PC; c += LANES) at(m.x + r * PC + c) = at(token + c) + at(place + c);
        }
        for (int64_t l = 0; l < s.L; l++) {
            const int64_t p = EACH * l;
            const Layer &y = m.layer[l];
            norm(R, C, m.x, w.w[p + NORM1], w.w[p + NORM1 + 1], y.unit1, y.dev1, y.in1);
            project(p + QKV, y.in1, m.wide);
            for (int64_t b = 0; b < R / s.T; b++) {
                float *qkvt = y.qkvt + b * round_up(3 * C) * PT;
                transpose(s.T, 3 * C, m.wide + b * s.T * P3, P3, qkvt, PT);
                attend(s, qkvt, y.pt + b * s.H * s.T * PT, m.dott);
                transpose(C, s.T, m.dott, PT, y.att + b * s.T * PC, PC);
            }
            project(p + OUT, y.att, m.x, true);
            norm(R, C, m.x, w.w[p + NORM2], w.w[p + NORM2 + 1], y.unit2, y.dev2, y.in2);
            project(p + FC, y.in2, y.act);
            gelu(R * P4, y.act, y.slope);
            project(p + PROJ, y.act, m.x, true);
        }
        norm(R, C, m.x, w.w[last], w.w[last + 1], m.unit, m.dev, m.in);
        multiply<false>(R, vecs(s.V), C, m.in, PC, w.wt[0], PV, m.logits, PV);
        int64_t wanted[MOST_POSITIONS];
        for (int64_t r = 0; r < R; r++) wanted[r] = targets[r / s.T * id_step + r % s.T];
        return head(R, s.V, m.logits, wanted, factor);
    }

    void backward(const int64_t *ids, int64_t id_step) const {
        const int64_t last = 2 + EACH * s.L;
        multiply<true>(s.V, vecs(C), R, m.logits, PV, m.in, PC, m.sums.w[0], PC, m.sums.w[0]);
        multiply<false>(R, vecs(C), s.V, m.logits, PV, w.w[0], PC, m.dh, PC);
        std::memset(m.dx, 0, R * PC * sizeof(float));
        norm_back(R, C, m.dh, w.w[last], m.unit, m.dev, m.dx, m.sums.w[last], m.sums.w[last + 1]);
        for (int64_t l = s.L - 1; l >= 0; l--) {
            const int64_t p = EACH * l;
            const Layer &y = m.layer[l];
            project_back(p + PROJ, y.act, m.dx, m.wide);
            for (int64_t i = 0; i < R * P4; i += LANES) at(m.wide + i) *= at(y.slope + i);
            project_back(p + FC, y.in2, m.wide, m.dh);
            norm_back(R, C, m.dh, w.w[p + NORM2], y.unit2, y.dev2, m.dx, m.sums.w[p + NORM2], m.sums.w[p + NORM2 + 1]);
            project_back(p + OUT, y.att, m.dx, m.dh);
            for (int64_t b = 0; b < R / s.T; b++) {
                transpose(s.T, C, m.dh + b * s.T * PC, PC, m.dott, PT);
                attend_back(s, m, y.qkvt + b * round_up(3 * C) * PT, y.pt + b * s.H * s.T * PT);
                transpose(3 * C, s.T, m.dqkvt, PT, m.wide + b * s.T * P3, P3);
            }
            project_back(p + QKV, y.in1, m.wide, m.dh);
            norm_back(R, C, m.dh, w.w[p + NORM1], y.unit1, y.dev1, m.dx, m.sums.w[p + NORM1], m.sums.w[p + NORM1 + 1]);
        }
        for (int64_t r = 0; r < R; r++) {
            float *token = m.sums.w[0] + ids[r / s.T * id_step + r % s.T] * PC, *place = m.sums.w[1] + r % s.T * PC;
            for (int64_t c = 0; c < PC; c += LANES) {
                at(token + c) += at(m.dx + r * PC + c);
                at(place + c) += at(m.dx + r * PC + c);
            }
        }
    }
};

void copy_in(const Parameter &q, const float *from, float *to, float *turned) {
    for (int64_t r = 0; r < q.rows; r++)
        std::memcpy(to + r * pitch(q.columns), from + r * q.columns, q.columns * sizeof(float));
    if (turned) transpose(q.rows, q.columns, to, pitch(q.columns), turned, pitch(q.rows));
}

}  // namespace

// Returns how many floats small_network needs as workspace, zero before its first call. Shape: L, H, C, T, V, B.
extern "C" int64_t small_network_room(const Shape *shape, int64_t threads) {
    Room room{nullptr, 0};
    take_parts(room, threads);
    Weights weights;
    weights.take(room, *shape, true);
    Thread thread;
    for (int64_t i = 0; i < threads; i++) thread.take(room, *shape);
    return room.used;
}

// Returns the summed nll of B sequences of T tokens, in nats, or -1 when a token is not in the vocabulary. Adds `factor`
// times its gradient to `gradients`. Rows of ids and of targets begin id_step apart.
extern "C" double small_network(const Shape *shape, float *workspace, const float *const *weights, float *const *gradients,
                                const int64_t *ids, const int64_t *targets, int64_t id_step, float factor,
                                int64_t threads) {
    const Shape &s = *shape;
    for (int64_t i = 0; i < s.B * s.T; i++) {
        const int64_t place = i / s.T * id_step + i % s.T;
        if (ids[place] < 0 || ids[place] >= s.V || targets[place] < 0 || targets[place] >= s.V) return -1;
    }
    Room room{workspace, 0};
    Thread *const parts = take_parts(room, threads);
    Weights own;
    own.take(room, s, true);
    double nlls[MOST_THREADS] = {};
    for (int64_t i = 0; i < threads; i++) parts[i].take(room, s);
    const int64_t count = 4 + EACH * s.L, group = s.group(), groups = (s.B + group - 1) / group;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t i = 0; i < threads; i++) {
        for (int64_t p = i; p < count; p += threads) copy_in(Parameter(s, p), weights[p], own.w[p], own.wt[p]);
        std::memset(parts[i].first, 0, (parts[i].end - parts[i].first) * sizeof(float));
    }
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t i = 0; i < threads; i++)
        for (int64_t g = groups * i / threads; g < groups * (i + 1) / threads; g++) {
            const int64_t first = g * group, rows = (first + group < s.B ? group : s.B - first) * s.T;
            const Pass pass{s, own, parts[i], rows};
            nlls[i] += pass.forward(ids + first * id_step, id_step, targets + first * id_step, factor);
            pass.backward(ids + first * id_step, id_step);
        }
    for (int64_t p = 0; p < count; p++) {
        const Parameter q(s, p);
        for (int64_t i = 0; i < threads; i++)
            for (int64_t r = 0; r < q.rows; r++)
                for (int64_t c = 0; c < q.columns; c++)
                    gradients[p][r * q.columns + c] += parts[i].sums.w[p][r * pitch(q.columns) + c];
    }
    double nll = 0;
    for (int64_t i = 0; i < threads; i++) nll += nlls[i];
    return nll;
}
