
// Two f16 per word, the first input in the lower half. WGSL can widen them without `enable f16`, which many adapters lack and
// which would not make sums in f32 faster.
@group(0) @binding(5) var<storage, read> weight: array<vec2<u32>>;

fn weights(output: u32, k: u32) -> Right {
    let words = weight[output * p.inputs4 + k];
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn scaled(sum: Sum, row: u32, column: u32) -> vec4<f32> {
    return sum;
}
