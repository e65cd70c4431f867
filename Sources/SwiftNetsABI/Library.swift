import CSwiftNets
import Glibc
import SwiftNets

nonisolated(unsafe) private let versionText = UnsafePointer<CChar>(strdup(engineVersion)!)

@_cdecl("swn_version")
public func swnVersion() -> UnsafePointer<CChar>? { versionText }

@_cdecl("swn_level")
public func swnLevel() -> UnsafePointer<CChar>? { kernelLevel() }

@_cdecl("swn_set_threads")
public func swnSetThreads(_ count: Int32) -> swn_status {
  status { try Threads.set(Int(count)) }
}

@_cdecl("swn_get_threads")
public func swnGetThreads() -> Int32 { Int32(Threads.count) }
