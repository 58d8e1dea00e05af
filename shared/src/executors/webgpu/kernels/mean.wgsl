// One step of an element-wise mean: adds up to four operands to the sum of earlier steps, then multiplies. Steps are needed
// because a stage binds at most eight buffers.

struct Params {
    // vec4s of an operand.
    length: u32,
    operands: u32,
    // Whether y holds the sum of earlier steps.
    resume: u32,
    // 1, in the last step 1 / (number of all operands).
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> c: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> d: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.length {
        return;
    }
    var sum = a[id.x];
    if p.operands > 1u {
        sum += b[id.x];
    }
    if p.operands > 2u {
        sum += c[id.x];
    }
    if p.operands > 3u {
        sum += d[id.x];
    }
    if p.resume != 0u {
        sum += y[id.x];
    }
    y[id.x] = sum * p.factor;
}
