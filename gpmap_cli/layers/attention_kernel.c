/* Stacked attention layers and their read-out, one sample after the other, with every block of scores in a core's
   caches: the arithmetic of block_attention.py, whose notation this uses, without a call for every product.

   Compiled for one precision (REAL, and DOUBLE whether that is double) and one width of tokens (WIDTH), so that inner loops have lengths that the compiler knows. What is indexed by
   tokens and width is kept by rows, padded to whole vectors, and where needed also transposed. */

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VECTOR 64 /* bytes */
#elif defined(__AVX__)
#define VECTOR 32
#else
#define VECTOR 16
#endif
#define LANES ((long)(VECTOR / sizeof(REAL)))
#define PADDED ((WIDTH + LANES - 1) / LANES * LANES)
/* As many sums as registers hold beside what they are made of: ROWS rows, or that many numbers of a token, by two
   vectors. The numbers of a token are shared out evenly. */
#if VECTOR == 64 || defined(__aarch64__)
#define ROWS 8
#define MOST_OF_ONE 13
#define MOST_OF_TWO 12
#else
#define ROWS 4
#define MOST_OF_ONE 6
#define MOST_OF_TWO 5
#endif
#define SHARES(most) ((WIDTH + most - 1) / most)
#define SHARE(most) ((WIDTH + SHARES(most) - 1) / SHARES(most))
#define BLOCK (8 * ROWS) /* rows of a block of weights, which stays in the first-level cache */

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef REAL vec __attribute__((vector_size(VECTOR), aligned(sizeof(REAL)), may_alias));
#if DOUBLE
typedef long long integer;
#else
typedef int integer;
#endif
typedef integer ivec __attribute__((vector_size(VECTOR), aligned(sizeof(REAL)), may_alias));

INLINE vec load(const REAL *from) { return *(const vec *)from; }
INLINE void store(REAL *to, vec what) { *(vec *)to = what; }
INLINE vec all(REAL number) { return number - (vec){}; }

/* The larger of both; the second one where either is NaN. */
INLINE vec larger(vec a, vec b)
{
#if VECTOR == 64 && DOUBLE
    return (vec)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif VECTOR == 64
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif VECTOR == 32 && DOUBLE
    return (vec)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif VECTOR == 32
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    ivec where = a > b;
    return (vec)((where & (ivec)a) | (~where & (ivec)b));
#endif
}

/* exp(x) of x below 88 (709 in double precision), to rounding; not below the smallest normal number. NaN stays NaN.
   x = n log 2 + r; a polynomial in r, the near-minimax or the Taylor one, times 2^n by way of the exponent's bits. */
INLINE vec exponential(vec x)
{
#if DOUBLE
    x = larger(all(-708.0), x);
    vec shifted = x * 1.4426950408889634 + 6755399441055744.0; /* n is now in the lowest bits */
    vec n = shifted - 6755399441055744.0;
    vec r = x - n * 6.93147180369123816490e-01 - n * 1.90821492927058770002e-10;
    vec p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return (vec)((ivec)p + ((ivec)shifted << 52));
#else
    x = larger(all(-87.0f), x);
    vec shifted = x * 1.44269504f + 12582912.0f;
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693147181f; /* one rounding where there is a fused multiply-add, of 1e-7 where n is large */
    vec p = r * 0.0013814540f + 0.0083687451f;
    p = p * r + 0.041668391f;
    p = p * r + 0.166665204f;
    p = p * r + 0.499999934f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return (vec)((ivec)p + ((ivec)shifted << 23));
#endif
}

INLINE double sum_of(vec v)
{
    double total = 0;
    for (int lane = 0; lane < LANES; lane++) total += v[lane];
    return total;
}

/* to[r][v] = rows[r] . columns[:, v] - minus[r], ROWS rows of WIDTH numbers and `vectors` vectors of columns. Blocks
   such as `to` are (rows, 2 vectors). */
INLINE void scores_of(
    REAL *to, const REAL *rows, const REAL *columns, const REAL *minus, long stride, int vectors)
{
    vec sums[ROWS][2];
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < vectors; v++) sums[r][v] = all(minus ? -minus[r] : 0);
    for (int d = 0; d < WIDTH; d++) {
        vec column[2];
        UNROLL for (int v = 0; v < vectors; v++) column[v] = load(columns + d * stride + v * LANES);
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int v = 0; v < vectors; v++) sums[r][v] += rows[r * PADDED + d] * column[v];
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < vectors; v++) store(to + (2 * r + v) * LANES, sums[r][v]);
}

/* out[r] (+)= sum_j weights[r][j] matrix[j] for ROWS rows of `vectors` vectors. */
INLINE void weighted_rows_part(
    REAL *out, int add, const REAL *weights, long stride, const REAL *matrix, long count, int vectors)
{
    vec sums[ROWS][2] = {};
    for (long j = 0; j < count; j++) {
        vec row[2];
        UNROLL for (int v = 0; v < vectors; v++) row[v] = load(matrix + j * PADDED + v * LANES);
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int v = 0; v < vectors; v++) sums[r][v] += weights[r * stride + j] * row[v];
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int v = 0; v < vectors; v++) {
            REAL *at = out + r * PADDED + v * LANES;
            if (add) sums[r][v] += load(at);
            store(at, sums[r][v]);
        }
}

/* The same for ROWS rows of PADDED numbers. */
INLINE void weighted_rows(REAL *out, int add, const REAL *weights, long stride, const REAL *matrix, long count)
{
    long at = 0;
    for (; at + 2 * LANES <= PADDED; at += 2 * LANES)
        weighted_rows_part(out + at, add, weights, stride, matrix + at, count, 2);
    if (at < PADDED) weighted_rows_part(out + at, add, weights, stride, matrix + at, count, 1);
}

/* sums[d][v] += sum_i weights[i][v] a[i][d] for `depth` of the d. */
INLINE void add_weighted(
    REAL *sums, long stride, const REAL *weights, const REAL *a, long rows, int depth, int vectors)
{
    vec part[MOST_OF_ONE][2] = {}; /* of a block alone, as sums of sums round less */
    for (long i = 0; i < rows; i++) {
        vec w[2];
        UNROLL for (int v = 0; v < vectors; v++) w[v] = load(weights + (2 * i + v) * LANES);
        UNROLL for (int d = 0; d < depth; d++)
            UNROLL for (int v = 0; v < vectors; v++) part[d][v] += a[i * PADDED + d] * w[v];
    }
    UNROLL for (int d = 0; d < depth; d++)
        UNROLL for (int v = 0; v < vectors; v++) {
            REAL *at = sums + d * stride + v * LANES;
            store(at, load(at) + part[d][v]);
        }
}

/* sums[d][v] += sum_i first[i][v] a[i][d] + second[i][v] b[i][d], as above. */
INLINE void add_weighted_both(
    REAL *sums, long stride, const REAL *first, const REAL *a, const REAL *second, const REAL *b, long rows, int depth,
    int vectors)
{
    vec part[MOST_OF_TWO][2] = {};
    for (long i = 0; i < rows; i++) {
        vec f[2], s[2];
        UNROLL for (int v = 0; v < vectors; v++) {
            f[v] = load(first + (2 * i + v) * LANES);
            s[v] = load(second + (2 * i + v) * LANES);
        }
        UNROLL for (int d = 0; d < depth; d++)
            UNROLL for (int v = 0; v < vectors; v++) {
                part[d][v] += a[i * PADDED + d] * f[v];
                part[d][v] += b[i * PADDED + d] * s[v];
            }
    }
    UNROLL for (int d = 0; d < depth; d++)
        UNROLL for (int v = 0; v < vectors; v++) {
            REAL *at = sums + d * stride + v * LANES;
            store(at, load(at) + part[d][v]);
        }
}

/* gradients (WIDTH, PADDED) = sum_t a[t]' b[t]. */
static void outer_products(REAL *gradients, const REAL *a, const REAL *b, long count)
{
    for (int chunk = 0; chunk < PADDED; chunk += LANES)
        for (int first = 0; first < WIDTH; first += ROWS) {
            int depth = WIDTH - first < ROWS ? WIDTH - first : ROWS;
            vec sums[ROWS] = {};
            for (long t = 0; t < count; t++) {
                vec row = load(b + t * PADDED + chunk);
                /* Past the width there is padding, zero, or the next token's number, whose sum is not stored. */
                UNROLL for (int d = 0; d < ROWS; d++) sums[d] += a[t * PADDED + first + d] * row;
            }
            for (int d = 0; d < depth; d++) store(gradients + (first + d) * PADDED + chunk, sums[d]);
        }
}

typedef struct {
    long tokens, rows, columns; /* tokens, and those rounded up to whole ROWS and whole vectors */
} shape;

/* What a layer keeps of a sample. */
typedef struct {
    REAL *tokens;             /* Z, (rows, PADDED) */
    REAL *tokens_transposed;  /* (WIDTH, columns) */
    REAL *queries;            /* Z A, (rows, PADDED) */
    REAL *queries_transposed; /* (WIDTH, columns) */
    REAL *attended;           /* softmax(Z A Z') Z, (rows, PADDED) */
    REAL *most;               /* the largest score of each row, (rows,) */
    REAL *inverse;            /* 1 over the sum of exp(scores - the largest), (rows,) */
} layer;

static void transpose(REAL *to, const REAL *from, shape s)
{
    for (int d = 0; d < WIDTH; d++) {
        for (long t = 0; t < s.tokens; t++) to[d * s.columns + t] = from[t * PADDED + d];
        for (long t = s.tokens; t < s.columns; t++) to[d * s.columns + t] = 0;
    }
}

/* out (rows, PADDED) = (+)= from (rows, PADDED) matrix (WIDTH, PADDED) */
static void times(REAL *out, int add, const REAL *from, const REAL *matrix, shape s)
{
    for (long t = 0; t < s.rows; t += ROWS)
        weighted_rows(out + t * PADDED, add, from + t * PADDED, PADDED, matrix, WIDTH);
}

INLINE int any(ivec where)
{
    integer found = 0;
    for (int lane = 0; lane < LANES; lane++) found |= where[lane];
    return found != 0;
}

/* softmax(Z A Z') Z of `vectors` vectors of tokens from `column` on. Other tokens come in blocks; what the blocks so far
   have added up to is shifted where one has a larger score. */
INLINE void attend_some(const layer *z, long column, shape s, int vectors)
{
    REAL weights[BLOCK * 2 * LANES], attended[WIDTH * 2 * LANES];
    vec total[2] = {}, most[2] = {all(-INFINITY), all(-INFINITY)};
    memset(attended, 0, sizeof(attended));
    for (long start = 0; start < s.tokens; start += BLOCK) {
        const REAL *tokens = z->tokens + start * PADDED;
        long count = s.tokens - start < BLOCK ? s.tokens - start : BLOCK;
        for (long r = 0; r < count; r += ROWS) {
            const REAL *queries = z->queries_transposed + column;
            scores_of(weights + 2 * r * LANES, tokens + r * PADDED, queries, NULL, s.columns, vectors);
        }
        UNROLL for (int v = 0; v < vectors; v++) {
            vec before = most[v], now = before, sum = {};
            for (long i = 0; i < count; i++) now = larger(now, load(weights + (2 * i + v) * LANES));
            if (any(now > before)) {
                vec shrink = exponential(before - now);
                total[v] *= shrink;
                for (int d = 0; d < WIDTH; d++) {
                    REAL *at = attended + (2 * d + v) * LANES;
                    store(at, load(at) * shrink);
                }
            }
            for (long i = 0; i < count; i++) {
                REAL *at = weights + (2 * i + v) * LANES;
                vec weight = exponential(load(at) - now);
                store(at, weight);
                sum += weight;
            }
            total[v] += sum;
            most[v] = now;
        }
        enum { share = SHARE(MOST_OF_ONE), rest = WIDTH % SHARE(MOST_OF_ONE) };
        int d = 0;
        for (; d + share <= WIDTH; d += share)
            add_weighted(attended + 2 * d * LANES, 2 * LANES, weights, tokens + d, count, share, vectors);
        if (rest) add_weighted(attended + 2 * d * LANES, 2 * LANES, weights, tokens + d, count, rest, vectors);
    }
    for (int v = 0; v < vectors; v++)
        for (int lane = 0; lane < LANES && column + v * LANES + lane < s.tokens; lane++) {
            long t = column + v * LANES + lane;
            REAL inverse = 1 / total[v][lane];
            for (int d = 0; d < WIDTH; d++) z->attended[t * PADDED + d] = attended[(2 * d + v) * LANES + lane] * inverse;
            z->most[t] = most[v][lane];
            z->inverse[t] = inverse;
        }
}

static void attend(const layer *z, shape s)
{
    long column = 0;
    for (; column + 2 * LANES <= s.columns; column += 2 * LANES) attend_some(z, column, s, 2);
    if (column < s.columns) attend_some(z, column, s, 1);
}

INLINE void columns_back(
    const layer *z, const REAL *gradients, const REAL *means, REAL *query_gradients, REAL *transposed_gradients,
    long column, shape s, int vectors)
{
    REAL weights[BLOCK * 2 * LANES], score_gradients[BLOCK * 2 * LANES];
    const REAL *columns = z->tokens_transposed + column;
    long count = s.tokens - column < vectors * LANES ? s.tokens - column : vectors * LANES;
    for (long start = 0; start < s.rows; start += BLOCK) {
        long rows = s.rows - start < BLOCK ? s.rows - start : BLOCK;
        for (long r = 0; r < rows; r += ROWS) {
            scores_of(weights + 2 * r * LANES, z->queries + (start + r) * PADDED, columns, NULL, s.columns, vectors);
            scores_of(
                score_gradients + 2 * r * LANES, gradients + (start + r) * PADDED, columns, means + start + r, s.columns,
                vectors);
        }
        for (long r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < vectors; v++) {
                REAL *weight = weights + (2 * r + v) * LANES, *gradient = score_gradients + (2 * r + v) * LANES;
                vec now = exponential(load(weight) - z->most[start + r]);
                store(weight, now);
                store(gradient, load(gradient) * now);
            }
        for (long r = 0; r < rows; r += ROWS)
            weighted_rows(
                query_gradients + (start + r) * PADDED, column > 0, score_gradients + 2 * r * LANES, 2 * LANES,
                z->tokens + column * PADDED, count);
        const REAL *q = z->queries + start * PADDED, *g = gradients + start * PADDED;
        REAL *to = transposed_gradients + column;
        enum { share = SHARE(MOST_OF_TWO), rest = WIDTH % SHARE(MOST_OF_TWO) };
        int d = 0;
        for (; d + share <= WIDTH; d += share)
            add_weighted_both(
                to + d * s.columns, s.columns, score_gradients, q + d, weights, g + d, rows, share, vectors);
        if (rest)
            add_weighted_both(
                to + d * s.columns, s.columns, score_gradients, q + d, weights, g + d, rows, rest, vectors);
    }
}

/* From the gradients of `attended` those of the queries, and of Z as keys and values. Weights are exp(scores) without
   the division by their sum, which the gradients get instead, in place. `means`: for each row the sum of weights times
   their gradients, which is gradients . attended. */
static void attend_back(
    const layer *z, REAL *gradients, REAL *means, REAL *query_gradients, REAL *transposed_gradients,
    REAL *token_gradients, shape s)
{
    for (long t = 0; t < s.rows; t++) {
        REAL sum = 0;
        for (int d = 0; d < WIDTH; d++) {
            gradients[t * PADDED + d] *= z->inverse[t];
            sum += gradients[t * PADDED + d] * z->attended[t * PADDED + d];
        }
        means[t] = sum;
    }
    memset(transposed_gradients, 0, sizeof(REAL) * WIDTH * s.columns);
    long column = 0;
    for (; column + 2 * LANES <= s.columns; column += 2 * LANES)
        columns_back(z, gradients, means, query_gradients, transposed_gradients, column, s, 2);
    if (column < s.columns) columns_back(z, gradients, means, query_gradients, transposed_gradients, column, s, 1);
    for (int d = 0; d < WIDTH; d++)
        for (long t = 0; t < s.tokens; t++) token_gradients[t * PADDED + d] = transposed_gradients[d * s.columns + t];
}

static void pad_rows(REAL *to, const REAL *from, long rows)
{
    for (long t = 0; t < rows; t++) memcpy(to + t * PADDED, from + t * WIDTH, sizeof(REAL) * WIDTH);
}

static void unpad_rows(REAL *to, const REAL *from, long rows)
{
    for (long t = 0; t < rows; t++) memcpy(to + t * WIDTH, from + t * PADDED, sizeof(REAL) * WIDTH);
}

/* The matrices (count, WIDTH, WIDTH) padded, and the same transposed. */
static void pad_matrices(REAL *to, REAL *transposed, const REAL *from, long count)
{
    pad_rows(to, from, count * WIDTH);
    for (long m = 0; m < count; m++)
        for (int d = 0; d < WIDTH; d++)
            for (int e = 0; e < WIDTH; e++)
                transposed[(m * WIDTH + d) * PADDED + e] = from[(m * WIDTH + e) * WIDTH + d];
}

/* Zeroed memory for `count` numbers from what is left, beginning at a whole vector. */
static REAL *take(REAL **left, long count)
{
    REAL *taken = *left;
    *left += (count + LANES - 1) / LANES * LANES;
    return taken;
}

/* y (batch,) of tokens Z (batch, tokens, D), with c (tokens, D), A (layers, D, D) and V (num_values, D, D); and where
   `token_gradients` is given, its gradients for every sample: with respect to the tokens (batch, tokens, D), to c
   (batch, tokens, D), to A (batch, layers, D, D) and V (batch, num_values, D, D). With as many V as layers the tokens
   are sums of weights times tokens, as in block_attention.py. Returns 0, or 1 where memory is short. */
int attention_stack(
    long batch, long tokens, int layers, int num_values, const REAL *z, const REAL *readout, const REAL *scores,
    const REAL *values, REAL *predicted, REAL *token_gradients, REAL *readout_gradients, REAL *score_gradients,
    REAL *value_gradients)
{
    const shape s = {tokens, (tokens + ROWS - 1) / ROWS * ROWS, (tokens + LANES - 1) / LANES * LANES};
    const int sums_first = num_values == layers;
    const long by_rows = s.rows * PADDED, across = WIDTH * s.columns, square = WIDTH * PADDED;
    const long arrays = 7 * layers + 16; /* each may end with a part of a vector, and be read one beyond its end */
    REAL *memory = calloc(
        layers * (3 * by_rows + 2 * across + 2 * s.rows) + (2 * (layers + num_values) + 1) * square + 5 * by_rows + across
            + 2 * s.rows + (arrays + 2) * (LANES + ROWS), sizeof(REAL));
    layer *z_of = malloc(layers * sizeof(layer));
    if (!memory || !z_of) {
        free(memory);
        free(z_of);
        return 1;
    }
    REAL *left = (REAL *)(((size_t)memory + VECTOR - 1) / VECTOR * VECTOR);
    for (int l = 0; l < layers; l++)
        z_of[l] = (layer){take(&left, by_rows), take(&left, across), take(&left, by_rows), take(&left, across),
                          take(&left, by_rows), take(&left, s.rows), take(&left, s.rows)};
    REAL *a = take(&left, layers * square), *a_back = take(&left, layers * square);
    REAL *v = take(&left, num_values * square), *v_back = take(&left, num_values * square);
    REAL *c = take(&left, by_rows), *first = take(&left, by_rows), *first_sums = take(&left, s.rows);
    REAL *gradients = take(&left, by_rows), *query_gradients = take(&left, by_rows), *back = take(&left, by_rows);
    REAL *transposed = take(&left, across), *means = take(&left, s.rows), *matrix = take(&left, square);
    pad_matrices(a, a_back, scores, layers);
    pad_matrices(v, v_back, values, num_values);
    pad_rows(c, readout, tokens);

    for (long b = 0; b < batch; b++) {
        const REAL *of_sample = z + b * tokens * WIDTH;
        if (sums_first) {
            pad_rows(first, of_sample, tokens);
            for (long t = 0; t < tokens; t++) {
                first_sums[t] = first[t * PADDED + WIDTH - 1];
                for (int d = 0; d < WIDTH; d++) first[t * PADDED + d] /= first_sums[t];
            }
            times(z_of[0].tokens, 0, first, v, s);
        } else {
            pad_rows(z_of[0].tokens, of_sample, tokens);
        }
        for (int l = 0; l < layers; l++) {
            transpose(z_of[l].tokens_transposed, z_of[l].tokens, s);
            times(z_of[l].queries, 0, z_of[l].tokens, a + l * square, s);
            transpose(z_of[l].queries_transposed, z_of[l].queries, s);
            attend(&z_of[l], s);
            if (l + 1 < layers) times(z_of[l + 1].tokens, 0, z_of[l].attended, v + (l + sums_first) * square, s);
        }
        const REAL *attended = z_of[layers - 1].attended;
        double y = 0;
        for (long start = 0; start < by_rows; start += BLOCK * PADDED) {
            long end = start + BLOCK * PADDED < by_rows ? start + BLOCK * PADDED : by_rows;
            vec part = {};
            for (long at = start; at < end; at += LANES) part += load(attended + at) * load(c + at);
            y += sum_of(part);
        }
        predicted[b] = (REAL)y;
        if (!token_gradients) continue;

        unpad_rows(readout_gradients + b * tokens * WIDTH, attended, tokens);
        memcpy(gradients, c, sizeof(REAL) * by_rows);
        for (int l = layers - 1; l >= 0; l--) {
            attend_back(&z_of[l], gradients, means, query_gradients, transposed, back, s);
            outer_products(matrix, z_of[l].tokens, query_gradients, tokens);
            unpad_rows(score_gradients + (b * layers + l) * WIDTH * WIDTH, matrix, WIDTH);
            times(back, 1, query_gradients, a_back + l * square, s);
            int before = l - 1 + sums_first; /* the V that Z was made with */
            if (before < 0) break;
            outer_products(matrix, l > 0 ? z_of[l - 1].attended : first, back, tokens);
            unpad_rows(value_gradients + (b * num_values + before) * WIDTH * WIDTH, matrix, WIDTH);
            times(gradients, 0, back, v_back + before * square, s);
        }
        REAL *to = token_gradients + b * tokens * WIDTH;
        if (!sums_first) {
            unpad_rows(to, back, tokens);
            continue;
        }
        for (long t = 0; t < tokens; t++) {
            REAL sum = 0;
            for (int d = 0; d < WIDTH; d++) sum += gradients[t * PADDED + d] * first[t * PADDED + d];
            for (int d = 0; d < WIDTH; d++) to[t * WIDTH + d] = gradients[t * PADDED + d] / first_sums[t];
            to[t * WIDTH + WIDTH - 1] -= sum / first_sums[t];
        }
    }
    free(z_of);
    free(memory);
    return 0;
}
