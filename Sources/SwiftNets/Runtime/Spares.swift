import Synchronization

/// A few objects that calls take, use alone and give back.
///
/// There is no lock: a fork may come at any moment, and in the child nobody would open it again.
final class Spares<Item: AnyObject & Sendable>: Sendable {
  private let places: [Place]
  private let replaced = Atomic<Int>(0)

  private final class Place: Sendable {
    private let reference = Atomic<UInt>(0)  // owned, or 0 for none

    /// Puts an object here, or none, and returns the one that was here.
    func exchange(_ item: Item?) -> Item? {
      let new = item.map { UInt(bitPattern: Unmanaged.passRetained($0).toOpaque()) } ?? 0
      let old = reference.exchange(new, ordering: .acquiringAndReleasing)
      return UnsafeRawPointer(bitPattern: old).map { Unmanaged<Item>.fromOpaque($0).takeRetainedValue() }
    }

    /// Puts an object here if there is none.
    func put(_ item: Item) -> Bool {
      let new = Unmanaged.passRetained(item)
      let isFree = reference.compareExchange(
        expected: 0, desired: UInt(bitPattern: new.toOpaque()), ordering: .acquiringAndReleasing
      ).exchanged
      if !isFree { new.release() }
      return isFree
    }

    deinit { _ = exchange(nil) }
  }

  /// Keeps up to `count` objects.
  init(_ count: Int) { places = (0..<count).map { _ in Place() } }

  /// An object that suits, if there is one.
  func take(where suits: (Item) -> Bool) -> Item? {
    for place in places {
      guard let item = place.exchange(nil) else { continue }
      if suits(item) { return item }
      give(item)
    }
    return nil
  }

  /// Keeps `item`, where all places are taken instead of another one.
  func give(_ item: Item) {
    if places.contains(where: { $0.put(item) }) { return }
    _ = places[replaced.add(1, ordering: .relaxed).oldValue % places.count].exchange(item)
  }
}
