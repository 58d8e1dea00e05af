// Softmax attention that stores no tokens × tokens matrix: keys are processed in blocks, and the sums so far are rescaled
// whenever a larger logit appears (online softmax: Milakov and Gimelshein 2018; FlashAttention: Dao et al. 2022).
//
// A workgroup computes 32 queries × 64 channels of one head; wider heads take several workgroups, which compute the same
// logits. An invocation holds 4 queries × 4 keys of the logits and 4 queries × 8 channels of the result.

struct Params {
    tokens: u32,
    heads: u32,
    // Channels of a head.
    size: u32,
    // Floats in a row of qkv and of the result, padding included.
    pitch: u32,
    pitch_out: u32,
    scale: f32,
    // Patches within `reach` of a patch on the grid, after `prefix` tokens, are hidden from it; none if grid is 0.
    prefix: u32,
    grid: u32,
    reach: u32,
    // Side of the position bias's grid, 0 if there is no bias; floats in a head's row of it.
    bias_grid: u32,
    bias_pitch: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;
// A row per head: an entry per offset on the grid, class token to patch, patch to class token, class token to itself.
@group(0) @binding(3) var<storage, read> bias: array<f32>;

const BLOCK = 32u;
// vec4s in a row of 32 and of 64 channels, one more than needed, so that neighbours read from different banks.
const PITCH = 9u;
const WIDE = 17u;
const LOWEST = -3.0e38;

// Queries, then softmax weights; keys, then values; scratch of a reduction over a row's 8 invocations.
var<workgroup> left: array<vec4<f32>, 288>;
var<workgroup> right: array<vec4<f32>, 544>;
var<workgroup> scratch: array<f32, 256>;

// Four channels of a token, zero outside the head and beyond the last token.
fn load(photo: u32, token: u32, offset: u32, channel: u32) -> vec4<f32> {
    var value = vec4(0.0);
    if token < p.tokens && channel < p.size {
        let at = (photo * p.tokens + token) * p.pitch + offset + channel;
        value = vec4(qkv[at], qkv[at + 1u], qkv[at + 2u], qkv[at + 3u]);
    }
    return select(vec4(0.0), value, vec4(channel) + vec4(0u, 1u, 2u, 3u) < vec4(p.size));
}

// sum + m · v, where m's columns belong to v's components.
fn accumulate(sum: vec4<f32>, m: mat4x4<f32>, v: vec4<f32>) -> vec4<f32> {
    return fma(m[3], vec4(v.w), fma(m[2], vec4(v.z), fma(m[1], vec4(v.y), fma(m[0], vec4(v.x), sum))));
}

// Visibility of four keys from `first` on: 1 if visible to the query, 0 if hidden.
fn visible(query: u32, first: u32) -> vec4<f32> {
    if p.grid == 0u || query < p.prefix {
        return vec4(1.0);
    }
    let key = vec4(first) + vec4(0u, 1u, 2u, 3u);
    let place = vec4<i32>(key) - vec4(i32(p.prefix));
    let own = i32(query - p.prefix);
    let grid = i32(p.grid);
    let near_row = abs(place / grid - own / grid) <= vec4(i32(p.reach));
    let near_column = abs(place % grid - own % grid) <= vec4(i32(p.reach));
    return select(vec4(1.0), vec4(0.0), near_row & near_column & (key >= vec4(p.prefix)));
}

// Position bias of the offset from `query` to `key`.
fn way(head: u32, query: u32, key: u32) -> f32 {
    let g = p.bias_grid;
    let side = 2u * g - 1u;
    let q = min(query, p.tokens - 1u);
    let k = min(key, p.tokens - 1u);
    var entry = side * side;
    if q > 0u && k > 0u {
        let row = (q - 1u) / g + g - 1u - (k - 1u) / g;
        let column = (q - 1u) % g + g - 1u - (k - 1u) % g;
        entry = row * side + column;
    } else if q > 0u {
        entry += 1u;
    } else if k == 0u {
        entry += 2u;
    }
    return bias[head * p.bias_pitch + entry];
}

// The same for four keys from `first` on.
fn ways(head: u32, query: u32, first: u32) -> vec4<f32> {
    if p.bias_grid == 0u {
        return vec4(0.0);
    }
    return vec4(
        way(head, query, first), way(head, query, first + 1u), way(head, query, first + 2u), way(head, query, first + 3u));
}

fn largest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
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
            y[start + channel + i] = value[i];
        }
    }
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let photo = group.y / p.heads;
    let head = group.y % p.heads;
    let query = group.x * BLOCK;
    let first_channel = group.z * 64u;
    let width = p.heads * p.size;
    let q_start = head * p.size;
    let k_start = q_start + width;
    let v_start = k_start + width;
    let row = local.y * 4u;

    // One component per query of this invocation.
    var highest = vec4(LOWEST);
    var total = vec4(0.0);
    // Two groups of four channels per query.
    var near0 = vec4(0.0);
    var near1 = vec4(0.0);
    var near2 = vec4(0.0);
    var near3 = vec4(0.0);
    var far0 = vec4(0.0);
    var far1 = vec4(0.0);
    var far2 = vec4(0.0);
    var far3 = vec4(0.0);

    for (var block = 0u; block < p.tokens; block += BLOCK) {
        var s0 = vec4(0.0);
        var s1 = vec4(0.0);
        var s2 = vec4(0.0);
        var s3 = vec4(0.0);
        for (var channel = 0u; channel < p.size; channel += BLOCK) {
            for (var i = index; i < 256u; i += 64u) {
                let token = i / 8u;
                let c = i % 8u;
                left[token * PITCH + c] = load(photo, query + token, q_start, channel + 4u * c) * p.scale;
                // Key 4a + b is in slot 8b + a, because an invocation holds four consecutive keys.
                let slot = (token % 4u) * 8u + token / 4u;
                right[slot * PITCH + c] = load(photo, block + token, k_start, channel + 4u * c);
            }
            workgroupBarrier();
            for (var c = 0u; c < 8u; c++) {
                let source = local.x * PITCH + c;
                let k = transpose(mat4x4<f32>(
                    right[source], right[source + 8u * PITCH], right[source + 16u * PITCH], right[source + 24u * PITCH]));
                let rows = row * PITCH + c;
                s0 = accumulate(s0, k, left[rows]);
                s1 = accumulate(s1, k, left[rows + PITCH]);
                s2 = accumulate(s2, k, left[rows + 2u * PITCH]);
                s3 = accumulate(s3, k, left[rows + 3u * PITCH]);
            }
            workgroupBarrier();
        }
        let first_key = block + local.x * 4u;
        s0 += ways(head, query + row, first_key);
        s1 += ways(head, query + row + 1u, first_key);
        s2 += ways(head, query + row + 2u, first_key);
        s3 += ways(head, query + row + 3u, first_key);
        let absent = vec4(first_key) + vec4(0u, 1u, 2u, 3u) >= vec4(p.tokens);
        s0 = select(s0, vec4(LOWEST), absent);
        s1 = select(s1, vec4(LOWEST), absent);
        s2 = select(s2, vec4(LOWEST), absent);
        s3 = select(s3, vec4(LOWEST), absent);

        let at = row * 8u + local.x;
        scratch[at] = largest(s0);
        scratch[at + 8u] = largest(s1);
        scratch[at + 16u] = largest(s2);
        scratch[at + 24u] = largest(s3);
        workgroupBarrier();
        var higher = highest;
        for (var i = row * 8u; i < row * 8u + 8u; i++) {
            higher = max(higher, vec4(scratch[i], scratch[i + 8u], scratch[i + 16u], scratch[i + 24u]));
        }
        s0 = exp(s0 - higher.x);
        s1 = exp(s1 - higher.y);
        s2 = exp(s2 - higher.z);
        s3 = exp(s3 - higher.w);
        let keep = exp(highest - higher);
        highest = higher;
        total = total * keep + vec4(1.0) * mat4x4<f32>(s0, s1, s2, s3);
        near0 *= keep.x;
        near1 *= keep.y;
        near2 *= keep.z;
        near3 *= keep.w;
        far0 *= keep.x;
        far1 *= keep.y;
        far2 *= keep.z;
        far3 *= keep.w;

        let to = row * PITCH + local.x;
        left[to] = s0 * visible(query + row, first_key);
        left[to + PITCH] = s1 * visible(query + row + 1u, first_key);
        left[to + 2u * PITCH] = s2 * visible(query + row + 2u, first_key);
        left[to + 3u * PITCH] = s3 * visible(query + row + 3u, first_key);
        for (var i = index; i < 512u; i += 64u) {
            let token = i / 16u;
            let c = i % 16u;
            right[token * WIDE + c] = load(photo, block + token, v_start, first_channel + 4u * c);
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let source = k * 4u * WIDE + local.x;
            let near = mat4x4<f32>(right[source], right[source + WIDE], right[source + 2u * WIDE], right[source + 3u * WIDE]);
            let far = mat4x4<f32>(
                right[source + 8u], right[source + WIDE + 8u], right[source + 2u * WIDE + 8u], right[source + 3u * WIDE + 8u]);
            let rows = row * PITCH + k;
            near0 = accumulate(near0, near, left[rows]);
            near1 = accumulate(near1, near, left[rows + PITCH]);
            near2 = accumulate(near2, near, left[rows + 2u * PITCH]);
            near3 = accumulate(near3, near, left[rows + 3u * PITCH]);
            far0 = accumulate(far0, far, left[rows]);
            far1 = accumulate(far1, far, left[rows + PITCH]);
            far2 = accumulate(far2, far, left[rows + 2u * PITCH]);
            far3 = accumulate(far3, far, left[rows + 3u * PITCH]);
        }
        workgroupBarrier();
    }

    let at = row * 8u + local.x;
    scratch[at] = total.x;
    scratch[at + 8u] = total.y;
    scratch[at + 16u] = total.z;
    scratch[at + 24u] = total.w;
    workgroupBarrier();
    total = vec4(0.0);
    for (var i = row * 8u; i < row * 8u + 8u; i++) {
        total += vec4(scratch[i], scratch[i + 8u], scratch[i + 16u], scratch[i + 24u]);
    }
    let channel = first_channel + 4u * local.x;
    store(photo, query + row, head, channel, near0 / total.x);
    store(photo, query + row + 1u, head, channel, near1 / total.y);
    store(photo, query + row + 2u, head, channel, near2 / total.z);
    store(photo, query + row + 3u, head, channel, near3 / total.w);
    store(photo, query + row, head, channel + 32u, far0 / total.x);
    store(photo, query + row + 1u, head, channel + 32u, far1 / total.y);
    store(photo, query + row + 2u, head, channel + 32u, far2 / total.z);
    store(photo, query + row + 3u, head, channel + 32u, far3 / total.w);
}
