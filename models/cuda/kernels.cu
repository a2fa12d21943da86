// Kernels that candle has not, or has only slowly: depthwise and other direct convolutions with what follows them, the
// columns of a convolution, pools, and programs of a few steps per value. Compiled to PTX at build time (build.rs).
// The same in plain words, and the tests' reference, are the CPU implementations in models/device_ops.
//
// Every thread makes one value; neighbouring threads make neighbouring values of a row. Sums are in f32, values in
// memory are f32 or f16. Indices are 32 bits: the caller keeps tensors below 2^31 values.

#include <cuda_fp16.h>

#define MOST_STAGES 12

struct Stage {
    int code;
    float numbers[5];
    const void* data;
};

struct Program {
    int count;
    int channels;
    int inner;
    int unused;
    Stage stages[MOST_STAGES];
};

// Channels of one group and channels of the whole, sizes, window.
struct Geometry {
    int read_channels, made_channels;
    int read_per_group, made_per_group;
    int height, width;
    int made_height, made_width;
    int kernel_y, kernel_x;
    int stride_y, stride_x;
    int dilation_y, dilation_x;
    int before_y, before_x;
};

// As in launch.rs.
static_assert(sizeof(Stage) == 32 && sizeof(Program) == 400 && sizeof(Geometry) == 64, "structs of two languages");

__device__ __forceinline__ float load(const float* from) { return __ldg(from); }
__device__ __forceinline__ float load(const __half* from) { return __half2float(__ldg(from)); }
__device__ __forceinline__ void store(float* to, float x) { *to = x; }
__device__ __forceinline__ void store(__half* to, float x) { *to = __float2half_rn(x); }

// Keeps NaN.
__device__ __forceinline__ float clamped(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The codes are those of `Code` in models/device_ops/program.rs.
template <typename T>
__device__ __forceinline__ float run(const Program& program, float x, unsigned at) {
    const unsigned plane = at / (unsigned)program.inner;
    const unsigned channel = plane % (unsigned)program.channels;
    for (int i = 0; i < program.count; i++) {
        const Stage& stage = program.stages[i];
        const float* constants = (const float*)stage.data;
        const T* values = (const T*)stage.data;
        const float a = stage.numbers[0], b = stage.numbers[1];
        switch (stage.code) {
            case 0: x += __ldg(constants + channel); break;
            case 1: x *= __ldg(constants + channel); break;
            case 2: x = x > 0.0f ? x : x * __ldg(constants + channel); break;
            case 3: x += load(values + at); break;
            case 4: x *= load(values + at); break;
            case 5: x = load(values + at) - x; break;
            case 6: x += load(values + plane); break;
            case 7: x *= load(values + plane); break;
            case 8: x = rintf((clamped(x, a, b) - a) * stage.numbers[2]) * stage.numbers[3] + stage.numbers[4]; break;
            case 9: x = x < 0.0f ? 0.0f : x; break;
            case 10: x = x > 0.0f ? x : x * a; break;
            case 11: x = sigmoid(x); break;
            case 12: x *= sigmoid(x); break;
            case 13: x = x * clamped(x + 3.0f, 0.0f, 6.0f) / 6.0f; break;
            case 14: x = clamped(a * x + b, 0.0f, 1.0f); break;
            case 15: x = clamped(x, a, b); break;
            case 16: x = expf(x); break;
            case 17: x = logf(x); break;
            case 18: x = sqrtf(x); break;
            case 19: x = tanhf(x); break;
            case 20: x = -x; break;
            case 21: x = fabsf(x); break;
            case 22: x = x > 0.0f ? x : a * expm1f(x); break;
        }
    }
    return x;
}

// `from` and `to` may be the same memory, so `from` is not read through the read-only cache.
template <typename T>
__device__ __forceinline__ void map(const T* from, T* to, unsigned count, const Program& program) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count) store(to + at, run<T>(program, (float)from[at], at));
}

// KY and KX are the window's size where it is known when this is compiled, else 0.
template <typename T, int KY, int KX>
__device__ __forceinline__ void direct(const T* x, const T* weights, T* to, unsigned count, const Geometry& g,
                                       const Program& program) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const int kernel_y = KY ? KY : g.kernel_y, kernel_x = KX ? KX : g.kernel_x;
    const unsigned column = at % g.made_width;
    const unsigned row = at / g.made_width % g.made_height;
    const unsigned plane = at / ((unsigned)g.made_width * g.made_height);
    const unsigned channel = plane % g.made_channels;
    const unsigned picture = plane / g.made_channels;
    const unsigned first = picture * g.read_channels + channel / g.made_per_group * g.read_per_group;
    const int top = (int)(row * g.stride_y) - g.before_y, left = (int)(column * g.stride_x) - g.before_x;
    const T* filter = weights + (size_t)channel * g.read_per_group * kernel_y * kernel_x;
    const T* source = x + (size_t)first * g.height * g.width;
    float sum = 0.0f;
    for (int c = 0; c < g.read_per_group; c++) {
#pragma unroll
        for (int ky = 0; ky < kernel_y; ky++) {
            const int y = top + ky * g.dilation_y;
            if (y < 0 || y >= g.height) continue;
#pragma unroll
            for (int kx = 0; kx < kernel_x; kx++) {
                const int at_x = left + kx * g.dilation_x;
                if (at_x < 0 || at_x >= g.width) continue;
                sum = fmaf(load(source + (size_t)y * g.width + at_x), load(filter + ky * kernel_x + kx), sum);
            }
        }
        filter += kernel_y * kernel_x;
        source += (size_t)g.height * g.width;
    }
    store(to + at, run<T>(program, sum, at));
}

template <typename T>
__device__ __forceinline__ void columns(const T* x, T* to, unsigned count, const Geometry& g) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const unsigned column = at % g.made_width;
    unsigned rest = at / g.made_width;
    const unsigned row = rest % g.made_height;
    rest /= g.made_height;
    const int kx = rest % g.kernel_x;
    rest /= g.kernel_x;
    const int ky = rest % g.kernel_y;
    const unsigned plane = rest / g.kernel_y;
    const int y = (int)(row * g.stride_y) - g.before_y + ky * g.dilation_y;
    const int at_x = (int)(column * g.stride_x) - g.before_x + kx * g.dilation_x;
    const bool inside = y >= 0 && y < g.height && at_x >= 0 && at_x < g.width;
    to[at] = inside ? x[((size_t)plane * g.height + y) * g.width + at_x] : (T)0.0f;
}

// `how`: 0 largest, 1 mean of what lies inside, 2 mean where outside counts as zeros.
template <typename T>
__device__ __forceinline__ void pool(const T* x, T* to, unsigned count, const Geometry& g, int how) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const unsigned column = at % g.made_width;
    const unsigned row = at / g.made_width % g.made_height;
    const unsigned plane = at / ((unsigned)g.made_width * g.made_height);
    const int top = (int)(row * g.stride_y) - g.before_y, left = (int)(column * g.stride_x) - g.before_x;
    const T* source = x + (size_t)plane * g.height * g.width;
    float sum = 0.0f, largest = -INFINITY;
    int inside = 0;
    for (int ky = 0; ky < g.kernel_y; ky++) {
        const int y = top + ky * g.dilation_y;
        if (y < 0 || y >= g.height) continue;
        for (int kx = 0; kx < g.kernel_x; kx++) {
            const int at_x = left + kx * g.dilation_x;
            if (at_x < 0 || at_x >= g.width) continue;
            const float value = load(source + (size_t)y * g.width + at_x);
            sum += value;
            largest = fmaxf(largest, value);
            inside++;
        }
    }
    const float mean = sum / (float)(how == 2 ? g.kernel_y * g.kernel_x : inside);
    store(to + at, how == 0 ? largest : mean);
}

#define KERNELS(T, NAME)                                                                                              \
    extern "C" __global__ void map_##NAME(const T* from, T* to, unsigned count, const Program program) {              \
        map<T>(from, to, count, program);                                                                             \
    }                                                                                                                 \
    extern "C" __global__ void direct_##NAME(const T* x, const T* weights, T* to, unsigned count, const Geometry g,   \
                                             const Program program) {                                                 \
        direct<T, 0, 0>(x, weights, to, count, g, program);                                                           \
    }                                                                                                                 \
    extern "C" __global__ void direct3_##NAME(const T* x, const T* weights, T* to, unsigned count, const Geometry g,  \
                                              const Program program) {                                                \
        direct<T, 3, 3>(x, weights, to, count, g, program);                                                           \
    }                                                                                                                 \
    extern "C" __global__ void direct5_##NAME(const T* x, const T* weights, T* to, unsigned count, const Geometry g,  \
                                              const Program program) {                                                \
        direct<T, 5, 5>(x, weights, to, count, g, program);                                                           \
    }                                                                                                                 \
    extern "C" __global__ void columns_##NAME(const T* x, T* to, unsigned count, const Geometry g) {                  \
        columns<T>(x, to, count, g);                                                                                  \
    }                                                                                                                 \
    extern "C" __global__ void pool_##NAME(const T* x, T* to, unsigned count, const Geometry g, int how) {            \
        pool<T>(x, to, count, g, how);                                                                                \
    }

KERNELS(float, f32)
KERNELS(__half, f16)
