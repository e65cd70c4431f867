import CKernels

/// The level of x86-64 whose instructions the kernels use: "v4", "v3" or "baseline"; a string that is never freed.
public func kernelLevel() -> UnsafePointer<CChar>? { swk_level() }

/// Whether they have no more than every x86-64 has.
let isBaseline = String(cString: swk_level()) == "baseline"
