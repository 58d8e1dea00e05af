
// x is f32, and the weight is read as f32.
alias Left = vec4<f32>;
alias Right = vec4<f32>;
alias Sum = vec4<f32>;

@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;

// Four inputs of a row of x.
fn inputs(row: u32, k: u32) -> Left {
    return x[row * p.inputs4 + k];
}

// sum + weights · x for four outputs, each with its weights of the same four inputs.
fn multiply(sum: Sum, w0: Right, w1: Right, w2: Right, w3: Right, x: Left) -> Sum {
    let w = transpose(mat4x4<f32>(w0, w1, w2, w3));
    return fma(w[3], vec4(x.w), fma(w[2], vec4(x.z), fma(w[1], vec4(x.y), fma(w[0], vec4(x.x), sum))));
}
