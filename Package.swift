// swift-tools-version: 6.1
import PackageDescription

// OpenBLAS comes from the PyPI package `scipy-openblas32`; the Makefile and setup.py say where it is.
guard let openBLAS = Context.environment["SWIFTNETS_OPENBLAS"] else {
  fatalError(
    """
    SWIFTNETS_OPENBLAS is not set: it names the folder of the Python package scipy_openblas32 \
    (with include/ and lib/ in it). Run `make swift` or `make test`, which set it.
    """)
}

let openBLASHeaders = ["-I\(openBLAS)/include"]
let openBLASHeadersForSwift = ["-Xcc", "-I\(openBLAS)/include"]

// Without it there are hashes in the module that depend on the folder: other folder, other bytes.
let sameBytes = ["-Xfrontend", "-disable-incremental-llvm-codegen"]

let package = Package(
  name: "swiftnets",
  products: [
    .library(name: "SwiftNetsABI", type: .static, targets: ["SwiftNetsABI"])
  ],
  targets: [
    .target(
      name: "COpenBLAS",
      cSettings: [.unsafeFlags(openBLASHeaders)],
      linkerSettings: [
        .unsafeFlags(["-L\(openBLAS)/lib", "-Xlinker", "-rpath", "-Xlinker", "\(openBLAS)/lib"]),
        .linkedLibrary("scipy_openblas"),
      ]),
    .target(name: "CKernels", cSettings: [.unsafeFlags(["-O3", "-fstack-protector-strong"])]),
    .target(name: "CSwiftNets"),
    .target(
      name: "SwiftNets",
      dependencies: ["COpenBLAS", "CKernels"],
      swiftSettings: [.unsafeFlags(openBLASHeadersForSwift + sameBytes)]),
    .target(
      name: "SwiftNetsABI",
      dependencies: ["SwiftNets", "CSwiftNets"],
      swiftSettings: [.unsafeFlags(openBLASHeadersForSwift + sameBytes)]),
    .testTarget(
      name: "SwiftNetsTests",
      dependencies: ["SwiftNets"],
      swiftSettings: [.unsafeFlags(openBLASHeadersForSwift)]),
  ],
  swiftLanguageModes: [.v6]
)
