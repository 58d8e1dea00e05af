
// x and weight are int8, four signed bytes per word; products are exact and summed in i32, which holds 66,000 inputs.
alias Left = u32;
alias Right = u32;
alias Sum = vec4<i32>;

// Rows from quantize_rows.wgsl: values, scale, zero point.
@group(0) @binding(4) var<storage, read> x: array<u32>;
@group(0) @binding(5) var<storage, read> weight: array<u32>;
// One scale per output channel, then the sum of its weights.
@group(0) @binding(6) var<storage, read> scales: array<vec4<f32>>;

fn inputs(row: u32, k: u32) -> Left {
    return x[row * p.pitch + k];
}

fn weights(output: u32, k: u32) -> Right {
    return weight[output * p.inputs4 + k];
}

fn multiply(sum: Sum, w0: Right, w1: Right, w2: Right, w3: Right, x: Left) -> Sum {
    return sum + vec4(dot4I8Packed(w0, x), dot4I8Packed(w1, x), dot4I8Packed(w2, x), dot4I8Packed(w3, x));
}

fn scaled(sum: Sum, row: u32, column: u32) -> vec4<f32> {
    let end = row * p.pitch + p.inputs4;
    let step = bitcast<f32>(x[end]);
    let zero = bitcast<i32>(x[end + 1u]);
    let exact = sum - zero * vec4<i32>(scales[p.outputs4 + column]);
    return vec4<f32>(exact) * step * scales[column];
}
