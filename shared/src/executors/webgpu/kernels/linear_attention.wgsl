// Second half of linear attention: phi(q) · sums, divided by phi(q) · (sum of phi(k)), the last column of the matrix of
// key_value_sums.wgsl. phi = elu + 1. A workgroup computes 32 tokens × 32 channels of one head, an invocation 4 × 4.

struct Params {
    tokens: u32,
    heads: u32,
    // Channels of a head.
    size: u32,
    // Floats in a row of qkv, of the sums and of the result, padding included.
    pitch: u32,
    columns: u32,
    pitch_out: u32,
    // Patches within `reach` of a patch on the grid, after `prefix` tokens, are hidden from it; none if grid is 0.
    prefix: u32,
    grid: u32,
    reach: u32,
    // Added to the normaliser.
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;

const BLOCK = 32u;
const PITCH = 9u;

// [token][channel], [channel][column] and the normalising column, in blocks of 32 × 32.
var<workgroup> queries: array<vec4<f32>, 288>;
var<workgroup> matrix: array<vec4<f32>, 256>;
var<workgroup> totals: array<vec4<f32>, 8>;

fn phi(x: vec4<f32>) -> vec4<f32> {
    return select(exp(x), x + 1.0, x > vec4(0.0));
}

// sum + m · v, where m's columns belong to v's components.
fn accumulate(sum: vec4<f32>, m: mat4x4<f32>, v: vec4<f32>) -> vec4<f32> {
    return fma(m[3], vec4(v.w), fma(m[2], vec4(v.z), fma(m[1], vec4(v.y), fma(m[0], vec4(v.x), sum))));
}

// Contribution of keys hidden from a token: to four channels, and to the normaliser.
struct Hidden {
    sum: vec4<f32>,
    total: f32,
}

fn hidden(photo: u32, token: u32, head: u32, channel: u32) -> Hidden {
    var found = Hidden(vec4(0.0), 0.0);
    if p.grid == 0u || token < p.prefix || token >= p.tokens {
        return found;
    }
    let row = (token - p.prefix) / p.grid;
    let column = (token - p.prefix) % p.grid;
    let start = photo * p.tokens;
    let width = p.heads * p.size;
    let q = (start + token) * p.pitch + head * p.size;
    for (var r = max(row, p.reach) - p.reach; r <= min(row + p.reach, p.grid - 1u); r++) {
        for (var c = max(column, p.reach) - p.reach; c <= min(column + p.reach, p.grid - 1u); c++) {
            let k = (start + p.prefix + r * p.grid + c) * p.pitch + width + head * p.size;
            var weight = 0.0;
            for (var i = 0u; i < p.size; i++) {
                let pair = phi(vec4(qkv[q + i], qkv[k + i], 0.0, 0.0));
                weight = fma(pair.x, pair.y, weight);
            }
            let v = k + width + channel;
            found.sum = fma(vec4(weight), vec4(qkv[v], qkv[v + 1u], qkv[v + 2u], qkv[v + 3u]), found.sum);
            found.total += weight;
        }
    }
    return found;
}

// Writes four channels of the result. The last head also zeroes the row's padding.
fn store(photo: u32, token: u32, head: u32, channel: u32, value: vec4<f32>) {
    if token >= p.tokens {
        return;
    }
    let start = (photo * p.tokens + token) * p.pitch_out + head * p.size;
    let end = select(p.size, p.pitch_out - head * p.size, head == p.heads - 1u);
    for (var i = 0u; i < 4u; i++) {
        if channel + i < end {
            y[start + channel + i] = select(0.0, value[i], channel + i < p.size);
        }
    }
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let photo = group.z / p.heads;
    let head = group.z % p.heads;
    let first_token = group.y * BLOCK;
    let first_column = group.x * BLOCK;
    let sums_start = group.z * p.size * p.columns;
    let row = local.y * 4u;

    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    // One normaliser per token of this invocation.
    var total = vec4(0.0);
    for (var block = 0u; block < p.size; block += BLOCK) {
        for (var i = index; i < 256u; i += 64u) {
            let token = first_token + i / 8u;
            let channel = vec4(block + 4u * (i % 8u)) + vec4(0u, 1u, 2u, 3u);
            var query = vec4(0.0);
            if token < p.tokens {
                let at = (photo * p.tokens + token) * p.pitch + head * p.size + channel;
                query = phi(vec4(qkv[at.x], qkv[at.y], qkv[at.z], qkv[at.w]));
            }
            queries[(i / 8u) * PITCH + i % 8u] = select(vec4(0.0), query, channel < vec4(p.size));

            let source = block + i / 8u;
            let column = first_column + 4u * (i % 8u);
            var entry = vec4(0.0);
            if source < p.size && column < p.columns {
                let at = sums_start + source * p.columns + column;
                entry = vec4(sums[at], sums[at + 1u], sums[at + 2u], sums[at + 3u]);
            }
            matrix[i] = entry;
        }
        if index < 8u {
            let source = vec4(block + 4u * index) + vec4(0u, 1u, 2u, 3u);
            let at = sums_start + source * p.columns + p.size;
            totals[index] = select(vec4(0.0), vec4(sums[at.x], sums[at.y], sums[at.z], sums[at.w]), source < vec4(p.size));
        }
        workgroupBarrier();
        for (var c = 0u; c < 8u; c++) {
            let source = c * 32u + local.x;
            let m = mat4x4<f32>(matrix[source], matrix[source + 8u], matrix[source + 16u], matrix[source + 24u]);
            let rows = row * PITCH + c;
            let q = mat4x4<f32>(
                queries[rows], queries[rows + PITCH], queries[rows + 2u * PITCH], queries[rows + 3u * PITCH]);
            sum0 = accumulate(sum0, m, q[0]);
            sum1 = accumulate(sum1, m, q[1]);
            sum2 = accumulate(sum2, m, q[2]);
            sum3 = accumulate(sum3, m, q[3]);
            total += totals[c] * q;
        }
        workgroupBarrier();
    }
    let channel = first_column + 4u * local.x;
    let token = first_token + row;
    let hidden0 = hidden(photo, token, head, channel);
    let hidden1 = hidden(photo, token + 1u, head, channel);
    let hidden2 = hidden(photo, token + 2u, head, channel);
    let hidden3 = hidden(photo, token + 3u, head, channel);
    store(photo, token, head, channel, (sum0 - hidden0.sum) / (total.x - hidden0.total + p.eps));
    store(photo, token + 1u, head, channel, (sum1 - hidden1.sum) / (total.y - hidden1.total + p.eps));
    store(photo, token + 2u, head, channel, (sum2 - hidden2.sum) / (total.z - hidden2.total + p.eps));
    store(photo, token + 3u, head, channel, (sum3 - hidden3.sum) / (total.w - hidden3.total + p.eps));
}
